"""When certificates end is known, told to operators, and warned of in time, at most once a day each."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from signal import SIGHUP, SIGINT
from typing import Any

import pytest
import trio

from raftkv_trio.errors import ConfigError
from raftkv_trio.sync import cancelled_when
from raftkv_trio.tls.contexts import Files, Life, make_contexts
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.tls.ends import LOOK_EVERY_S, EndWarnings, as_text, ends_of
from raftkv_trio.world import Clock
from tests.cli.program import Node, run, serving_alone
from tests.tls.certificates import DAY, Authority, Pair
from tests.tls.configs import client_tls, peer_tls, replace_pair

YEAR = 365 * DAY


def about(span: timedelta) -> Any:
    """That time from now, in seconds since 1970: a test takes less than ten minutes."""
    return pytest.approx(time.time() + span.total_seconds(), abs=600)


# ---------------------------------------------------------------- what is known


def test_the_lives_of_certificates(ca: Authority) -> None:
    """Of this side's own and of the CAs that it trusts, with the settings that name them."""
    pair = ca.issue("server", begins=-2 * DAY, ends=5 * DAY)
    contexts = make_contexts(Files.of_peers(peer_tls(ca, pair)))
    assert contexts.lives == (
        Life("peer_cert_file", pair.certificate, True, about(-2 * DAY), about(5 * DAY)),
        Life("peer_trusted_ca_file", ca.certificate, False, about(-10 * DAY), about(10 * DAY)),
    )
    assert [life.field for life in make_contexts(Files.of_clients(client_tls(pair))).lives] == ["cert_file"]


def test_a_file_with_several(ca: Authority, other_ca: Authority, tmp_path: Path) -> None:
    """The one that ends first counts: of the CAs that are trusted, and of a chain."""
    early = Authority(tmp_path, "early", ends=3 * DAY)
    both = tmp_path / "both.crt"
    both.write_bytes(ca.certificate.read_bytes() + early.certificate.read_bytes())
    pair = ca.issue("server", ends=5 * DAY)
    pair.certificate.write_bytes(pair.certificate.read_bytes() + early.certificate.read_bytes())
    contexts = make_contexts(Files.of_peers(peer_tls(ca, pair, peer_trusted_ca_file=both)))
    assert [life.not_after for life in contexts.lives] == [about(3 * DAY)] * 2


@pytest.mark.parametrize("junk", [b"AAAA", b"A", b"\xff\xff"])
def test_a_chain_that_is_damaged(ca: Authority, junk: bytes) -> None:
    """It is refused with a sentence, whoever finds out first."""
    pair = ca.issue("server")
    block = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % junk
    pair.certificate.write_bytes(pair.certificate.read_bytes() + block)
    with pytest.raises(ConfigError, match=r"`cert_file` .*server"):
        make_contexts(Files.of_clients(client_tls(pair)))


# ---------------------------------------------------------------- warnings


class Time(Clock):
    """A clock that a test sets: the wall's and the other one. A sleep calls `at_sleep`, and ends at once."""

    def __init__(self, at_sleep: Callable[[], object] = lambda: None) -> None:
        self.passed_s = 0.0
        self._at_sleep = at_sleep

    def now(self) -> float:
        return self.passed_s

    async def sleep_until(self, deadline: float) -> None:
        self._at_sleep()
        self.passed_s = deadline
        await trio.lowlevel.checkpoint()

    def wall_now(self) -> float:
        return time.time() + self.passed_s

    def pass_(self, span: timedelta) -> None:
        self.passed_s += span.total_seconds()


class Watched:
    """Warnings of one certificate of a port for clients, and what they say."""

    def __init__(self, credentials: Credentials, log: pytest.LogCaptureFixture) -> None:
        self.time = Time()
        self._log = log
        self._warnings = EndWarnings([credentials], self.time, self.time.wall_now)

    def said(self) -> list[str]:
        """What a look says now."""
        self._log.clear()
        self._warnings.look()
        return [record.getMessage() for record in self._log.records]


async def watched(pair: Pair, log: pytest.LogCaptureFixture) -> tuple[Credentials, Watched]:
    credentials = await Credentials.load(Files.of_clients(client_tls(pair)), "certificates for clients")
    return credentials, Watched(credentials, log)


@pytest.mark.parametrize(
    ("life", "first_warning"),
    [(YEAR, 30 * DAY), (90 * DAY, 30 * DAY), (60 * DAY, 20 * DAY), (DAY, DAY / 3), (DAY / 24, DAY / 72)],
)
async def test_the_first_warning(
    ca: Authority, caplog: pytest.LogCaptureFixture, life: timedelta, first_warning: timedelta
) -> None:
    """It comes 30 days before the end; of what has a short life, when a third of it is left."""
    now = timedelta(minutes=1)
    _, watch = await watched(ca.issue("server", begins=-now, ends=life - now), caplog)
    watch.time.pass_(life - now - first_warning - timedelta(minutes=2))
    assert watch.said() == []
    watch.time.pass_(timedelta(minutes=4))
    assert len(watch.said()) == 1


async def test_warnings_go_on_until_the_end(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """One a day, and one when it has ended, at once; each has the end, and how long it is until then."""
    pair = ca.issue("server", begins=-YEAR, ends=2.5 * DAY)
    credentials, watch = await watched(pair, caplog)
    when = as_text(credentials.contexts.lives[0].not_after)
    soon = f"`cert_file` {pair.certificate} ends in %s, at {when}; replace it before"
    over = f"`cert_file` {pair.certificate} has ended, at {when}: nobody connects anew; replace it"
    assert watch.said() == [soon % "2 days"]
    watch.time.pass_(0.9 * DAY)
    assert watch.said() == []
    watch.time.pass_(0.1 * DAY)
    assert watch.said() == [soon % "35 hours"]
    assert watch.said() == []
    watch.time.pass_(DAY)
    assert watch.said() == [soon % "11 hours"]
    watch.time.pass_(0.499 * DAY)
    assert watch.said() == []
    watch.time.pass_(0.002 * DAY)
    assert watch.said() == [over]
    watch.time.pass_(0.9 * DAY)
    assert watch.said() == []
    watch.time.pass_(0.1 * DAY)
    assert watch.said() == [over]


async def test_a_new_certificate_ends_the_warnings(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """A reload is enough. If the new one ends soon too, that is said at once."""
    pair = ca.issue("server", ends=DAY / 3, begins=-YEAR)
    credentials, watch = await watched(pair, caplog)
    assert len(watch.said()) == 1
    replace_pair(pair, ca.issue("next", ends=DAY, begins=-YEAR))
    await credentials.take_changed()
    assert "in 23 hours" in watch.said()[0]
    assert watch.said() == []
    replace_pair(pair, ca.issue("last", ends=YEAR))
    await credentials.take_changed()
    watch.time.pass_(2 * DAY)
    assert watch.said() == []
    assert ends_of([credentials]) == {"cert_file": about(YEAR)}


async def test_a_ca_that_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is warned of too, as a CA, beside the certificate."""
    ca = Authority(tmp_path, begins=-YEAR, ends=2.1 * DAY)
    files = Files.of_peers(peer_tls(ca, ca.issue("node", ends=YEAR)))
    credentials = await Credentials.load(files, "certificates for peers")
    watch = Watched(credentials, caplog)
    ca_life = credentials.contexts.lives[1]
    named, when = f"a CA in `peer_trusted_ca_file` {ca.certificate}", as_text(ca_life.not_after)
    assert watch.said() == [f"{named} ends in 2 days, at {when}; replace it before"]
    watch.time.pass_(3 * DAY)
    assert watch.said() == [f"{named} has ended, at {when}: what it has issued is refused; replace it"]


async def test_a_look_every_minute(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """The first look is at once, and so the second warning comes a day later, to the minute."""
    credentials, _ = await watched(ca.issue("server", ends=1.5 * DAY, begins=-YEAR), caplog)
    said: list[int] = []  # how many until the end of each look
    clock = Time(at_sleep=lambda: said.append(len(caplog.records)))
    looks = round(DAY.total_seconds() / LOOK_EVERY_S)
    async with cancelled_when(EndWarnings([credentials], clock, clock.wall_now).keep_looking):
        while len(said) <= looks:
            await trio.lowlevel.checkpoint()
    assert said[: looks + 1] == [1] * looks + [2]


# ---------------------------------------------------------------- operators


def metric(node: Node, name: str) -> dict[str, float]:
    """The values of a metric, by its labels."""
    text = node.wait_answer(200, "/-/metrics").text
    return {labels: float(value) for labels, value in re.findall(rf"^{name}{{(.*?)}} (\S+)$", text, re.M)}


def test_a_node_tells_when_its_certificates_end(ca: Authority, tmp_path: Path) -> None:
    """In its log, in the metrics, in its status and in `status`; and what a reload brings, too."""
    pair = ca.node(1, ["127.0.0.1"], begins=-YEAR, ends=10 * DAY)
    own = ("--peer-cert-file", pair.certificate, "--peer-key-file", pair.key)
    with serving_alone(*own, "--peer-trusted-ca-file", ca.certificate, directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        node.wait_said(rf"WARNING .*: --peer-cert-file {pair.certificate} ends in 9 days, at ")
        status = node.status()
        assert list(status["certificates"]) == ["peer_cert_file", "peer_trusted_ca_file"]
        end = status["certificates"]["peer_cert_file"]
        done = run("status", "--endpoint", node.url, directory=tmp_path)
        header, line = done.stdout.splitlines()
        assert "  CERTS END   HEALTH  " in header
        assert f"  {end.partition('T')[0]}  ok      " in line
        assert metric(node, "raftkv_certificate_end_timestamp_seconds") == {
            'file="peer_cert_file"': about(10 * DAY),
            'file="peer_trusted_ca_file"': about(10 * DAY),
        }
        replace_pair(pair, ca.node(1, ["127.0.0.1"], ends=20 * DAY))
        node.process.send_signal(SIGHUP)
        node.wait(lambda: node.status()["certificates"]["peer_cert_file"] != end)
        reloads = metric(node, "raftkv_certificate_reloads_total")
        labels = [f'file="peer_cert_file",outcome="{outcome}"' for outcome in ("taken", "refused")]
        assert [reloads[label] for label in labels] == [1, 0]
        pair.key.unlink()
        node.process.send_signal(SIGHUP)
        node.wait(lambda: metric(node, "raftkv_certificate_reloads_total")[labels[1]] == 1)
        assert node.end(SIGINT) == 0


def test_a_node_without_certificates(tmp_path: Path) -> None:
    """It has none to tell of, and `status` has no column for them."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        assert node.status()["certificates"] == {}
        assert metric(node, "raftkv_certificate_end_timestamp_seconds") == {}
        done = run("status", "--endpoint", node.url, directory=tmp_path)
        assert "CERTS" not in done.stdout
