"""Text from outside: whatever a peer, a client or a server sends, a line shows it escaped and cut."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.addresses import PeerAddress, parse_node_id
from raftkv_trio.client.text import aligned
from raftkv_trio.errors import ConfigError, MalformedRequest, PeerProtocolError
from raftkv_trio.foreign_text import MAX_CHARACTERS, LimitedLog, escaped, in_a_line, printable
from raftkv_trio.logs import JsonFormatter, TextFormatter, dropped_records
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.handshake_frames import (
    Admission,
    Hello,
    Introduction,
    JoinAnswer,
    Purpose,
    Welcome,
    decode_admission,
    decode_hello,
    decode_introduction,
    decode_join_answer,
    decode_notice,
    decode_welcome,
    encode_hello,
    encode_join_answer,
    encode_welcome,
)
from raftkv_trio.peers.joining import what_to_join
from raftkv_trio.peers.wire import (
    Refused,
    SnapshotRefused,
    decode_peer_frame,
    decode_snapshot_frame,
    encode_refused,
    encode_snapshot_frame,
)

HEADER_BYTES = 8  # of a frame
HOSTILE = "\x1b[2J\x9b1m\r\n\u202eevil\u2028\u2066\u200b\ufeff\U000e0001" + "x" * 900
HELLO = Hello(cluster_id=1, sender=2, nonce=bytes(16), receiver=1)


def check_fit(text: str) -> None:
    assert text.isprintable()
    assert len(text) <= MAX_CHARACTERS


def payload(frame: bytes) -> bytes:
    return frame[HEADER_BYTES:]


@given(st.text(max_size=400))
def test_any_text_is_made_fit(text: str) -> None:
    """Nothing that is shown forges a line or its direction, and what is harmless and short stays as it is."""
    check_fit(printable(text))
    assert escaped(text).isprintable()
    if text.isprintable() and len(text) <= MAX_CHARACTERS:
        assert printable(text) == text


def test_escapes() -> None:
    """The form of an escape is Python's."""
    assert printable("a\x1b\n\x85\u2028\u202e\U000e0001é") == r"a\x1b\n\x85\u2028\u202e\U000e0001é"
    assert printable("x" * 256) == "x" * 256
    assert printable("x" * 257) == "x" * 253 + "..."


def welcome_reason(text: str) -> str | None:
    welcome = Welcome(version=3, node_id=1, nonce=bytes(16), reason=text)
    return decode_welcome(payload(encode_welcome(welcome))).reason


def introduction_reason(text: str) -> str | None:
    return decode_introduction(cbor2.dumps([*Introduction(Purpose.ALIVE, 1, None, False, text)])).reason


def admission_reason(text: str) -> str | None:
    return decode_admission(cbor2.dumps([*Admission(1, None, None, text)])).reason


def notice(text: str) -> str:
    return decode_notice(cbor2.dumps([text]))


def refused_reason(text: str) -> str:
    refused = Refused(1, (ProposalId(1, 1, 1),), text, is_final=True, is_unknown=False)
    frame = decode_peer_frame(payload(encode_refused(refused)))
    assert isinstance(frame, Refused)
    return frame.reason


def snapshot_refused_reason(text: str) -> str:
    frame = decode_snapshot_frame(payload(encode_snapshot_frame(SnapshotRefused(text))))
    assert isinstance(frame, SnapshotRefused)
    return frame.reason


@pytest.mark.parametrize(
    "told",
    [
        welcome_reason,
        introduction_reason,
        admission_reason,
        notice,
        refused_reason,
        snapshot_refused_reason,
    ],
)
def test_sentences_of_peers(told: Callable[[str], str]) -> None:
    """Each reason that a peer may give is fit for a line as soon as it is decoded."""
    check_fit(told(HOSTILE))
    assert told("node 1 was removed from this cluster") == "node 1 was removed from this cluster"


@pytest.mark.parametrize(
    "sent",
    [
        lambda url: decode_hello(payload(encode_hello(replace(HELLO, peer_url=url)))),
        lambda url: decode_hello(payload(encode_hello(replace(HELLO, client_url=url)))),
        lambda url: decode_welcome(
            payload(encode_welcome(Welcome(version=3, node_id=1, nonce=bytes(16), client_url=url)))
        ),
        lambda url: decode_join_answer(cbor2.dumps(encode_join_answer(JoinAnswer(1, {1: url}, None)))),
    ],
)
def test_urls_of_peers(sent: Callable[[str], object]) -> None:
    """A URL that no line can show as it is ends the connection, with a reason that a line can show."""
    sent("http://127.0.0.1:1")
    with pytest.raises(PeerProtocolError) as caught:
        sent(f"http://{HOSTILE[:100]}")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < MAX_CHARACTERS + 100


def test_a_joiner_shows_what_a_member_answers() -> None:
    """The URL under which a member knows the joiner may be of any length."""
    reason = what_to_join(JoinAnswer(1, {2: "http://" + "x" * 500}, None), 2, PeerAddress("a", 1))
    assert isinstance(reason, str)
    assert len(reason) < MAX_CHARACTERS + 300


@pytest.mark.parametrize("text", [HOSTILE[:400], f"http://{HOSTILE[:400]}", "http://a:" + "9" * 400])
def test_addresses_in_errors(text: str) -> None:
    """An address that is refused is shown in the sentence, escaped and cut."""
    for parse in (PeerAddress.parse, parse_node_id):
        with pytest.raises(ConfigError) as caught:
            parse(text)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 2 * MAX_CHARACTERS + 100


def test_tables_of_commands() -> None:
    """A cell of `member list` or `status` is one cell in one line, whatever a server has sent."""
    lines = aligned([["ID", "URL"], ["1", HOSTILE]]).splitlines()
    assert len(lines) == 2
    check_fit(lines[1].removeprefix("1   "))


def test_log_lines() -> None:
    """A record is one line, and neither it nor its exception has a character that drives a terminal."""
    try:
        raise MalformedRequest(HOSTILE)
    except MalformedRequest:
        record = logging.makeLogRecord({"name": "a", "msg": "said %s", "args": (HOSTILE,)})
        record.exc_info = sys.exc_info()
    first, *lines = TextFormatter().format(record).split("\n")
    assert first.endswith("x" * 900)
    assert first.isprintable()
    assert all(line.isprintable() for line in lines)
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert json.loads(line)["message"] == f"said {HOSTILE}"


def test_lines_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    """At most one line an interval; the next one says how many there were in between."""
    now = 5.0
    before = dropped_records()
    log = LimitedLog(logging.getLogger("raftkv_trio.test"), lambda: now, 1.0, "closed: ")
    for number in range(1000):
        log.note(f"reason {number}")
    now = 6.0
    log.note("another")
    assert caplog.messages == ["closed: reason 0", "closed: another; 999 more since the last line"]
    assert dropped_records() == {**before, "limited": before["limited"] + 999}


def test_the_same_line_again_waits_longer(caplog: pytest.LogCaptureFixture) -> None:
    """Other lines in between do not hide it, and are not held up. Only the last few lines are remembered."""
    now = 0.0
    log = LimitedLog(logging.getLogger("raftkv_trio.test"), lambda: now, 1.0, repeat_interval_s=60.0)
    for second in range(61):
        now = float(second)
        log.note(f"once {second}" if second % 10 == 5 else "again")
    more = "more since the last line"
    others = [f"once {second}; 9 {more}" for second in range(15, 60, 10)]
    assert caplog.messages == ["again", f"once 5; 4 {more}", *others, f"again; 4 {more}"]
    for _ in range(16):
        now += 1
        log.note(f"at {now}")
    now += 1
    log.note("again")
    assert caplog.messages[-1] == "again"


@pytest.mark.parametrize(
    ("sentence", "within"),
    [
        ("Node 3 leads", "node 3 leads"),
        ("A key is empty", "a key is empty"),
        ("Authentication, which is on", "authentication, which is on"),
        ("Full", "full"),
        ("no leader", "no leader"),
        ("HTTP/1.1 is wanted", "HTTP/1.1 is wanted"),
        ("If-Match comes once", "If-Match comes once"),
        ("CRLs are read", "CRLs are read"),
        ("I", "I"),
        ("", ""),
    ],
)
def test_a_sentence_within_a_line_has_a_small_letter(sentence: str, within: str) -> None:
    """Unless its first word is written with others, too."""
    assert in_a_line(sentence) == within
