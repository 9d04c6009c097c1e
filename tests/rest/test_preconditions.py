"""If-Match and If-None-Match: as fields, as compares in the log entry, and as answers."""

from collections.abc import Mapping
from typing import NamedTuple

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.kv import Delete, GetResult, Put, PutResult, Store, Txn
from raftkv_trio.rest.preconditions import MAX_TAGS, Preconditions, Tags, parse_preconditions
from tests.rest.serving import Served

KEY = b"/key"


def parse(**fields: list[str]) -> Preconditions:
    """From lines of `if_match` and `if_none_match`."""
    return parse_preconditions(lambda name: fields.get(name.decode().replace("-", "_"), []))


# ---------------------------------------------------------------- as fields


@pytest.mark.parametrize(
    ("lines", "strong", "weak"),
    [
        (["*"], Tags(is_any=True), Tags(is_any=True)),
        ([" * "], Tags(is_any=True), Tags(is_any=True)),
        (['"17"'], Tags(False, (17,)), Tags(False, (17,))),
        (['"17", "4","17"'], Tags(False, (4, 17)), Tags(False, (4, 17))),
        (['"17"', '"4"'], Tags(False, (4, 17)), Tags(False, (4, 17))),
        ([',, "17" ,\t"4",'], Tags(False, (4, 17)), Tags(False, (4, 17))),
        (['W/"17", "4"'], Tags(False, (4,)), Tags(False, (4, 17))),
        (['"x", "", "0", "04", "-4", "4.0", "\xb2"'], Tags(False), Tags(False)),
        (['"4,5", "a,"'], Tags(False), Tags(False)),
        (['"' + "9" * 30 + '"'], Tags(False), Tags(False)),
    ],
)
def test_tags(lines: list[str], strong: Tags, weak: Tags) -> None:
    """Lists may be in several lines; If-Match compares strongly; tags of other stores match nothing."""
    assert parse(if_match=lines) == Preconditions(strong, None)
    assert parse(if_none_match=lines) == Preconditions(None, weak)


@pytest.mark.parametrize(
    "line", ["", " ", ",", "17", '"17', '17"', '"1" "2"', 'w/"1"', 'W / "1"', '*, "1"', '"a b"', "'1'", "**"]
)
def test_malformed_tags(line: str) -> None:
    """What is neither `*` nor a list of entity tags is refused, not ignored: the writer meant a condition."""
    with pytest.raises(MalformedRequest, match=r"If-Match must be \* or a list"):
        parse(if_match=[line])
    with pytest.raises(MalformedRequest, match="If-None-Match"):
        parse(if_none_match=[line])


def test_a_malformed_weak_tag_is_told_what_no_weak_tag_can_do() -> None:
    """Who mends the form of a weak tag in If-Match would be refused again."""
    with pytest.raises(MalformedRequest, match=r'"17"; a weak tag such as W/"17" never matches'):
        parse(if_match=["W/17"])
    with pytest.raises(MalformedRequest, match=r'"17"$'):
        parse(if_none_match=["W/17"])


def test_too_many_tags() -> None:
    """A txn holds so many compares, and no more tags are taken."""
    tags = [f'"{n}"' for n in range(1, MAX_TAGS + 2)]
    parse(if_match=tags[:-1])
    with pytest.raises(MalformedRequest, match="names 101 entity tags; 100 are allowed"):
        parse(if_match=tags)


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_any_text(text: str) -> None:
    """Any field is tags or is refused, in time that does not grow beyond its length."""
    for lines in ([text], [text * 200]):
        try:
            parse(if_match=lines)
        except MalformedRequest:
            continue


def test_no_field_takes_long() -> None:
    """Fields that look like tags until their end are refused without trying every way to read them."""
    for line in ('"1" , ' * 3000 + "x", ", " * 9000 + "x", '""' * 9000, '"' * 20_000):
        with pytest.raises(MalformedRequest):
            parse(if_match=[line])


# ---------------------------------------------------------------- as compares

revisions = st.lists(st.integers(1, 5), max_size=3).map(lambda r: tuple(sorted(set(r))))
tags = st.none() | st.just(Tags(is_any=True)) | st.builds(Tags, st.just(False), revisions)


@given(st.integers(0, 3), st.booleans(), tags, tags)
def test_guard_is_what_the_fields_say(
    puts: int, is_deleted: bool, if_match: Tags | None, if_none_match: Tags | None
) -> None:
    """The txn writes exactly if both conditions hold for the key, and otherwise reads the key."""
    store = Store()
    for _ in range(puts):
        store.run(Txn(success=(Put(KEY, b"old"),)))
    if is_deleted:
        store.run(Txn(success=(Delete(KEY),)))
    record = store.get(KEY)
    holds = if_match is None or (record is not None and if_match.match(record))
    holds = holds and not (if_none_match is not None and record is not None and if_none_match.match(record))
    (result,) = store.run(Preconditions(if_match, if_none_match).guard(KEY, Put(KEY, b"new"))).results
    if holds:
        assert isinstance(result, PutResult)
    else:
        assert result == GetResult((record,) if record else (), 1 if record else 0, store.revision)


@given(
    history=st.lists(st.sampled_from(["put", "delete", "other"]), max_size=6),
    later=st.lists(st.sampled_from(["put", "delete", "other"]), max_size=3),
    if_match=tags,
    if_none_match=tags,
)
def test_lost_tags_change_nothing(
    history: list[str], later: list[str], if_match: Tags | None, if_none_match: Tags | None
) -> None:
    """A tag that is left out could not have matched, whatever is applied before the command."""
    store = Store()

    def run(steps: list[str]) -> None:
        for step in steps:
            match step:
                case "put":
                    store.run(Txn(success=(Put(KEY, b"v"),)))
                case "delete":
                    store.run(Txn(success=(Delete(KEY),)))
                case _:
                    store.run(Txn(success=(Put(b"/other", b"v"),)))

    run(history)
    given_ = Preconditions(if_match, if_none_match)
    left = given_.without_lost_tags(store, KEY, is_linearizable=False)
    run(later)
    copy = Store()
    copy.restore(store.snapshot())
    assert store.run(left.guard(KEY, Put(KEY, b"new"))) == copy.run(given_.guard(KEY, Put(KEY, b"new")))


@pytest.mark.parametrize("field", ["If-Match", "If-None-Match"])
async def test_a_command_has_the_key_in_a_compare_once(
    served: Served, client: httpx.AsyncClient, field: str
) -> None:
    """A head of 8 kB makes no command of 800 kB: of 100 tags, the one that can match is left."""
    path = "/" + "k" * 7000
    for _ in range(3):
        etag = (await client.put(path, content=b"v")).headers["ETag"]
    lost = [f'"{n}"' for n in range(1, 4) if f'"{n}"' != etag]
    ahead = [f'"{n}"' for n in range(5000, 5000 + MAX_TAGS - 4)]
    many = {"If-Match": [*lost, etag, *ahead], "If-None-Match": lost}[field]
    before = served.parts.applier.log_bytes
    answer = await client.put(path, content=b"v", headers={field: ",".join(many)})
    assert answer.status_code == 204
    assert served.parts.applier.log_bytes - before < 4 * len(path)
    invented = await client.put(path, content=b"v", headers={"If-None-Match": ",".join(ahead)})
    assert (invented.status_code, invented.text) == (
        400,
        "If-None-Match names revisions that the store has not reached\n",
    )


# ---------------------------------------------------------------- as answers


class Case(NamedTuple):
    """The answers of GET, PUT and DELETE to these fields; the key is at revision 3, or does not exist."""

    fields: Mapping[str, str]
    existing: tuple[int, int, int]
    absent: tuple[int, int, int]


CASES = [
    Case({}, (200, 204, 204), (404, 204, 404)),
    Case({"If-Match": '"3"'}, (200, 204, 204), (404, 412, 404)),
    Case({"If-Match": '"2"'}, (412, 412, 412), (404, 412, 404)),
    Case({"If-Match": '"9", "3"'}, (200, 204, 204), (404, 412, 404)),
    Case({"If-Match": 'W/"3"'}, (412, 412, 412), (404, 412, 404)),
    Case({"If-Match": "*"}, (200, 204, 204), (404, 412, 404)),
    Case({"If-None-Match": "*"}, (304, 412, 412), (404, 204, 404)),
    Case({"If-None-Match": '"3"'}, (304, 412, 412), (404, 204, 404)),
    Case({"If-None-Match": 'W/"3"'}, (304, 412, 412), (404, 204, 404)),
    Case({"If-None-Match": '"2", "x"'}, (200, 204, 204), (404, 204, 404)),
    Case({"If-Match": '"3"', "If-None-Match": '"3"'}, (304, 412, 412), (404, 412, 404)),
    Case({"If-Match": '"2"', "If-None-Match": '"3"'}, (412, 412, 412), (404, 412, 404)),
    Case({"If-Match": "*", "If-None-Match": "*"}, (304, 412, 412), (404, 412, 404)),
    Case({"If-Match": '"3", "9"', "If-None-Match": '"2"'}, (200, 204, 204), (404, 412, 404)),
    Case({"If-Match": "3"}, (400, 400, 400), (400, 400, 400)),
    Case({"If-None-Match": ""}, (400, 400, 400), (400, 400, 400)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(dict(case.fields)))
@pytest.mark.parametrize("position", [0, 1, 2], ids=["GET", "PUT", "DELETE"])
async def test_answers(client: httpx.AsyncClient, served: Served, case: Case, position: int) -> None:
    """Each method answers each condition, for a present and an absent key; a refused write is not done."""
    method = ("GET", "PUT", "DELETE")[position]
    await client.put("/existing", content=b"1")
    await client.put("/existing", content=b"old")
    for path, expected in (("/existing", case.existing[position]), ("/absent", case.absent[position])):
        before = served.store.range(b"")
        content = b"new" if method == "PUT" else None
        answer = await client.request(method, path, headers=case.fields, content=content)
        assert answer.status_code == expected, path
        if expected == 412 or method == "GET":
            assert served.store.range(b"") == before
        if path == "/existing" and expected in (200, 304, 412):
            assert answer.headers["ETag"] == '"3"'
        if expected == 412:
            words = "The key is at revision 3" if path == "/existing" else "The key does not exist\n"
            assert answer.text.startswith(words)
            is_weak = path == "/existing" and case.fields.get("If-Match", "").startswith("W/")
            assert ("a weak tag" in answer.text) is is_weak


async def test_compare_and_set(client: httpx.AsyncClient) -> None:
    """Of two writers that read the same revision one writes, and the other learns the next revision."""
    read = (await client.put("/key", content=b"0")).headers["ETag"]
    first = await client.put("/key", content=b"1", headers={"If-Match": read})
    second = await client.put("/key", content=b"2", headers={"If-Match": read})
    assert (first.status_code, second.status_code) == (204, 412)
    assert second.headers["ETag"] == first.headers["ETag"]
    again = await client.put("/key", content=b"2", headers={"If-Match": second.headers["ETag"]})
    assert again.status_code == 204


async def test_create_only(client: httpx.AsyncClient) -> None:
    """Of many writers that create a key at once, one does."""
    statuses: dict[str, int] = {}

    async def create(name: str) -> None:
        created = await client.put("/lock", content=name, headers={"If-None-Match": "*"})
        statuses[name] = created.status_code

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(create, str(number))
    (owner,) = [name for name, status in statuses.items() if status == 204]
    assert sorted(statuses.values()) == [204] + 9 * [412]
    assert (await client.get("/lock")).text == owner


async def test_not_modified_has_no_content(served: Served, client: httpx.AsyncClient) -> None:
    """A 304 ends with its head, so that the connection can go on."""
    await client.put("/key", content=b"value")
    async with served.connect() as wire:
        answer = await wire.ask(b"GET /key", b'If-None-Match: "2"')
        assert (answer.status, answer.headers["ETag"]) == (304, '"2"')
        assert (await wire.ask(b"GET /key")).content == b"value"
