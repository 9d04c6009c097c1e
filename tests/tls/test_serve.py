"""A node with a certificate that it cannot use does not start: exit code 2, and one sentence."""

from pathlib import Path

import pytest

from tests.cli.program import alone, refusal
from tests.tls.certificates import DAY, Authority


@pytest.mark.parametrize("prefix", ["", "peer-"])
@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [(-3, -1, "has expired"), (1, 3, "is not valid yet")],
    ids=["expired", "not yet valid"],
)
def test_an_own_certificate_of_another_time(
    ca: Authority, tmp_path: Path, prefix: str, begins: int, ends: int, words: str
) -> None:
    """The sentence names flag and file, and says what to do; no data directory was begun."""
    pair = ca.node(1, begins=begins * DAY, ends=ends * DAY)
    files: list[str | Path] = [f"--{prefix}cert-file", pair.certificate, f"--{prefix}key-file", pair.key]
    if prefix:
        files += ["--peer-trusted-ca-file", ca.certificate]
    _, arguments = alone()
    said = refusal("serve", *arguments, "--data-dir", "data", *files, directory=tmp_path)
    assert said.startswith(f"--{prefix}cert-file {pair.certificate} {words}; ")
    assert "renew it, or set this machine's clock" in said
    assert not (tmp_path / "data").exists()


def test_the_certificate_of_another_node(ca: Authority, tmp_path: Path) -> None:
    """Members would refuse all that it says, and a cluster of one would say nothing of it."""
    pair = ca.node(2)
    files: list[str | Path] = ["--peer-cert-file", pair.certificate, "--peer-key-file", pair.key]
    _, arguments = alone()
    files += ["--peer-trusted-ca-file", ca.certificate]
    said = refusal("serve", *arguments, "--data-dir", "data", *files, directory=tmp_path)
    assert said.startswith(f"--peer-cert-file {pair.certificate} is for ")
    assert "/2, and this is node 1; name the files of its own certificate" in said
    assert not (tmp_path / "data").exists()
