"""Real members take new certificates while the leader sends one of them a snapshot."""

import signal
from pathlib import Path

import trio

from tests.integration.cluster import PATIENCE_S
from tests.integration.members import wait_said
from tests.tls.processes import client_of, started_with_tls

KEYS, VALUE_BYTES = 24, 1_000_000
#: More than the buffers of all systems on the way hold, so that a good part has arrived, and half is missing.
HELD_BEYOND_BYTES = KEYS * VALUE_BYTES // 2
FEW_KEPT = ("--catch-up-entries", "1")


def value(number: int) -> bytes:
    return b"%d " % number * (VALUE_BYTES // len(b"%d " % number))


async def test_a_snapshot_goes_on_after_a_reload(tmp_path: Path) -> None:
    """The connection that it was on ends; the next one sends what is missing, and nothing is lost."""
    with started_with_tls(tmp_path, arguments=FEW_KEPT, is_proxied=True) as (cluster, certificates):
        async with cluster.open_proxies() as proxies, client_of(certificates) as http:
            await cluster.wait_ready(http)
            leader = await cluster.leader(http)
            away = leader % 3 + 1
            assert cluster.stop(away) == 0
            for number in range(KEYS):
                url = cluster.url(leader, f"/key-{number}")
                (await http.put(url, content=value(number))).raise_for_status()
            for node_id in set(cluster.ids) - {away}:  # either may lead when the third comes back
                (await http.post(cluster.url(node_id, "/-/snapshot"), json={})).raise_for_status()
            proxy = proxies[away]
            first, proxy.large_bytes = len(proxy.passed), HELD_BEYOND_BYTES
            cluster.start(away)
            with trio.fail_after(PATIENCE_S):
                await proxy.has_large.wait()
            for node_id in cluster.ids:
                await trio.to_thread.run_sync(certificates.replace, node_id)
                cluster.signal(node_id, signal.SIGHUP)
            for node_id in cluster.ids:
                await wait_said(cluster, node_id, "certificates for peers: new certificates are in use")
            proxy.let_large_pass()
            await cluster.wait_ready(http)
            await cluster.wait_equal(http)
            large = [passed for passed in proxy.passed[first:] if passed > VALUE_BYTES]
            for number in range(KEYS):
                assert (await http.get(cluster.url(away, f"/key-{number}"))).content == value(number)
            status = await cluster.status(http, away)
    print(f"bytes on each large connection: {large}")
    assert status["snapshot_index"] > KEYS
    assert len(large) > 1
    assert large[-1] < KEYS * VALUE_BYTES * 3 // 4
