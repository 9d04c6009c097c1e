"""Three counters that meet over TLS. Usage: python counter_over_tls.py [DIRECTORY]

Certificates are in ./certs, and for this cluster: docs/embedding.md has the commands that make them.
"""

import sys
from pathlib import Path

import trio
from counter import Counter

from raftkv_trio import (
    Node,
    NodeConfig,
    PeerTls,
    RaftKVError,
    World,
    leaves,
    open_tls_network,
    parse_cluster,
    run_node,
)

MEMBERS = parse_cluster("https://127.0.0.1:9041,https://127.0.0.1:9042,https://127.0.0.1:9043")


async def run_over_tls(config: NodeConfig, certificates: Path, *, task_status: trio.TaskStatus[Node]) -> None:
    tls = PeerTls(
        peer_cert_file=certificates / f"node-{config.node_id}.crt",
        peer_key_file=certificates / f"node-{config.node_id}.key",
        peer_trusted_ca_file=certificates / "ca.crt",
    )
    async with open_tls_network(tls, config.node_id) as network:
        await run_node(config, Counter(), world=World(network=network), task_status=task_status)


async def main(certificates: Path, directory: Path) -> None:
    async with trio.open_nursery() as nursery:
        for node_id in MEMBERS:
            config = NodeConfig(node_id=node_id, members=MEMBERS, data_dir=directory / str(node_id))
            node = await nursery.start(run_over_tls, config, certificates)
        print(await node.propose(b"2"), await node.propose(b"40"))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    ended: str | int = 0
    try:
        trio.run(main, Path("certs"), Path(*sys.argv[1:] or ["counter-over-tls-data"]))
    except* RaftKVError as errors:
        ended = "\n".join(str(error) for error in leaves(errors))  # each says what to do
    except* KeyboardInterrupt:
        ended = 130
    sys.exit(ended)
