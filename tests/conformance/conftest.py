"""Which transcripts are replayed: `--transcripts DIR`, or our own and those beside the checkout."""

from pathlib import Path

import pytest

from tests.conformance.transcript import Tier

#: In the format of etcd's transcripts: our own scenarios, of what those beside the checkout do not reach.
OWN = Path(__file__).parent / "own"
_BESIDE = Path("..", "shared", "etcd-raft-transcripts")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transcripts",
        metavar="DIR",
        help=f"directory of transcripts to replay (default: our own, and {_BESIDE} beside the checkout)",
    )


def transcripts_in(directory: Path) -> list[Path]:
    """All transcripts, sorted; raises UsageError if there is none."""
    paths = sorted(directory.resolve().rglob("*.txt"))
    if not paths:
        raise pytest.UsageError(f"no transcripts (*.txt) in {directory}")
    return paths


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transcript" not in metafunc.fixturenames:
        return
    named = metafunc.config.getoption("--transcripts", None)
    beside = metafunc.config.rootpath / _BESIDE
    parameters = []
    if named:
        paths = transcripts_in(Path(named))
    elif beside.is_dir():
        paths = transcripts_in(OWN) + transcripts_in(beside)
    else:
        paths = transcripts_in(OWN)
        reason = f"no transcripts of etcd: {_BESIDE} does not exist, and no --transcripts DIR"
        parameters.append(pytest.param(None, None, marks=pytest.mark.skip(reason=reason), id="etcd"))
    metafunc.parametrize(
        ("transcript", "tier"),
        parameters
        + [
            pytest.param(path, tier, id=f"{path.parent.name}/{path.stem}-{tier.value}")
            for path in paths
            for tier in Tier
        ],
    )
