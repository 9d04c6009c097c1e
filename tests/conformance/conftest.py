"""Which transcripts are replayed: `--transcripts DIR`, or those beside the checkout."""

from pathlib import Path

import pytest

from tests.conformance.transcript import Tier

_BESIDE = Path("..", "shared", "etcd-raft-transcripts")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transcripts",
        metavar="DIR",
        help=f"directory of transcripts to replay (default: {_BESIDE} beside the checkout)",
    )


def _transcripts(config: pytest.Config) -> list[Path] | None:
    """All transcripts, sorted; None where no directory was named and there is none beside the checkout."""
    named = config.getoption("--transcripts", None)
    directory = Path(named) if named else config.rootpath / _BESIDE
    if not named and not directory.is_dir():
        return None
    paths = sorted(directory.resolve().rglob("*.txt"))
    if not paths:
        raise pytest.UsageError(f"no transcripts (*.txt) in {directory}")
    return paths


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transcript" not in metafunc.fixturenames:
        return
    paths = _transcripts(metafunc.config)
    skip = pytest.mark.skip(reason=f"no transcripts: {_BESIDE} does not exist, and no --transcripts DIR")
    metafunc.parametrize(
        ("transcript", "tier"),
        [pytest.param(None, None, marks=skip, id="none")]
        if paths is None
        else [
            pytest.param(path, tier, id=f"{path.parent.name}/{path.stem}-{tier.value}")
            for path in paths
            for tier in Tier
        ],
    )
