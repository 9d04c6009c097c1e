"""If-Match and If-None-Match (RFC 9110, section 13.1) as compares of a txn, and applied to what was read.

An entity tag is a key's mod revision in quotes, a strong tag. Tags that this store never gives (weak tags,
other texts) are well formed, and match nothing. The exception: If-None-Match compares weakly,
so there `W/"17"` means `"17"`.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.kv import Compare, Get, KeyValue, Operation, Relation, Store, Target, Txn

MAX_TAGS = 100
_LIST = re.compile(r'[ \t,]*(?:(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"[ \t]*(?:,[ \t,]*|$))+')
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_REVISION = re.compile(r"[1-9][0-9]{0,17}")


def etag(record: KeyValue) -> str:
    """The entity tag of a key's present version."""
    return f'"{record.mod_revision}"'


class Tags(NamedTuple):
    """The value of one field: `*`, or the revisions among its tags, ascending, each once."""

    is_any: bool
    revisions: tuple[int, ...] = ()

    def match(self, record: KeyValue) -> bool:
        """Whether the field names this version of the key."""
        return self.is_any or record.mod_revision in self.revisions


class Preconditions(NamedTuple):
    """What a request demands of the key's present version; a field is None if the request lacks it."""

    if_match: Tags | None = None
    if_none_match: Tags | None = None

    @property
    def tag_count(self) -> int:
        """How many revisions the two fields name."""
        return sum(len(tags.revisions) for tags in (self.if_match, self.if_none_match) if tags is not None)

    def without_lost_tags(self, store: Store, key: bytes, *, is_linearizable: bool) -> "Preconditions":
        """The same preconditions without tags that can match no more.

        Every tag becomes a compare with the key in it, so many tags would make a command of many times the
        key's size. But revisions only grow: when the command is applied, the key is at the revision that it
        has now, or at one that the store has not reached yet.

        Args:
            store: as it is now on this node.
            is_linearizable: whether it holds all that was acknowledged before the request. Then the client
                cannot have seen a tag that the store has not reached. It does not match now, so 412 is a true
                answer, whatever happens before the command is applied.

        Raises MalformedRequest if If-None-Match has many such tags: they must not match then either.
        """
        record = store.get(key)
        now = record.mod_revision if record else None

        def left(tags: Tags | None, *, ahead: bool) -> Tags | None:
            if tags is None or tags.is_any:
                return tags
            return Tags(
                False, tuple([r for r in tags.revisions if r == now or (ahead and r > store.revision)])
            )

        left_none = left(self.if_none_match, ahead=True)
        if is_linearizable and left_none is not None and len(left_none.revisions) > 1:
            raise MalformedRequest("If-None-Match names revisions that the store has not reached")
        return Preconditions(left(self.if_match, ahead=not is_linearizable), left_none)

    def guard(self, key: bytes, write: Operation, quota_bytes: int | None = None) -> Txn:
        """The txn, of this quota, that does `write` if the preconditions hold, and reads the key otherwise.

        All compares of a txn must hold, but one matching tag of If-Match is enough. So tags are compared the
        other way round (the key has none of these revisions), with the two branches exchanged.
        """
        others = self._none_match_compares(key)
        if self.if_match is None and not others:  # it cannot fail, and the command has the key once
            return Txn((), (write,), (), quota_bytes)
        read = Get(key)
        if self.if_match is None:
            return Txn(others, (write,), (read,), quota_bytes)
        if self.if_match.is_any:
            return Txn((Compare.exists(key), *others), (write,), (read,), quota_bytes)
        excluded = self.if_none_match or Tags(is_any=False)
        wanted = (
            [] if excluded.is_any else [r for r in self.if_match.revisions if r not in excluded.revisions]
        )
        compares = tuple(_differs(key, revision) for revision in wanted)
        return Txn(compares, (read,), (write,), quota_bytes)

    def _none_match_compares(self, key: bytes) -> tuple[Compare, ...]:
        if self.if_none_match is None:
            return ()
        if self.if_none_match.is_any:
            return (Compare.absent(key),)
        return tuple(_differs(key, revision) for revision in self.if_none_match.revisions)


def parse_preconditions(field: Callable[[bytes], list[str]]) -> Preconditions:
    """Parse a request's fields; `field` returns the lines of one, by its name in lower case.

    Raises MalformedRequest.
    """
    return Preconditions(
        _parse("If-Match", field(b"if-match"), weakly=False),
        _parse("If-None-Match", field(b"if-none-match"), weakly=True),
    )


def _parse(name: str, lines: list[str], *, weakly: bool) -> Tags | None:
    if not lines:
        return None
    value = ", ".join(lines).strip(" \t")
    if value == "*":
        return Tags(is_any=True)
    if not _LIST.fullmatch(value):
        hint = "" if weakly else weak_hint(lines)
        raise MalformedRequest(f'{name} must be * or a list of entity tags in quotes, such as "17"{hint}')
    tags = _TAG.findall(value)
    if len(tags) > MAX_TAGS:
        raise MalformedRequest(f"{name} names {len(tags)} entity tags; {MAX_TAGS} are allowed")
    texts = [text for weak, text in tags if weakly or not weak]
    return Tags(is_any=False, revisions=tuple(sorted({int(t) for t in texts if _REVISION.fullmatch(t)})))


def weak_hint(lines: list[str]) -> str:
    """The end of a sentence on an If-Match that failed: what is wrong with its weak tags, if it has any."""
    if "W/" not in "".join(lines).upper():
        return ""
    return (
        '; a weak tag such as W/"17" never matches in If-Match: send "17", without the W/ that a proxy adds'
        " if it compresses a response"
    )


def _differs(key: bytes, revision: int) -> Compare:
    return Compare(key, Target.MOD_REVISION, Relation.NOT_EQUAL, revision)
