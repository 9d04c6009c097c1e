"""The file of the cluster's secret: read as it is meant, and each mistake has its sentence."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from raftkv_trio.cli.secret_file import MAX_SECRET_BYTES, read_secret
from raftkv_trio.cli.shared_flags import naming_flags
from raftkv_trio.config import NodeConfig
from raftkv_trio.errors import ConfigError
from tests.cli.test_flags import MEMBERS, configured


def secret_file(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_the_secret_is_what_the_file_says(tmp_path: Path, mode: int) -> None:
    """Without the line's end that an editor adds; the group may read it. It is in no repr of a log line."""
    path = secret_file(tmp_path, b"thirty-two bytes of this secret.\r\n", mode)
    config = configured("--cluster-secret-file", str(path)).node
    assert config.cluster_secret == b"thirty-two bytes of this secret."
    assert "thirty-two" not in repr(config)


def test_the_variable_names_the_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a Procfile's nodes can be given it all at once."""
    path = secret_file(tmp_path, b"s" * 32)
    monkeypatch.setenv("RAFTKV_TRIO_CLUSTER_SECRET_FILE", str(path))
    assert configured().node.cluster_secret == b"s" * 32


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        (b"s" * 31 + b"\n", 0o600, "has 31 bytes, and needs at least 32; make one with `head -c 32"),
        (b"", 0o600, "has 0 bytes, and needs at least 32"),
        (b"s" * (MAX_SECRET_BYTES + 1), 0o600, "has more than 4096 bytes"),
        (b"s" * 32, 0o644, "can be read or changed by other users; run `chmod o= "),
        (b"s" * 32, 0o602, "can be read or changed by other users; run `chmod o= "),
    ],
)
def test_a_file_that_is_not_fit_is_refused(tmp_path: Path, content: bytes, mode: int, sentence: str) -> None:
    """With what is wrong, and what to do; the flag is named, and the secret is not."""
    path = secret_file(tmp_path, content, mode)
    with pytest.raises(ConfigError) as refused:
        read_secret(path)
    assert naming_flags(str(refused.value)).startswith(f"--cluster-secret-file {path} {sentence}")
    assert "sss" not in str(refused.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A missing one, a directory, and a pipe on which nobody waits for a writer."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, sentence in (
        (
            "missing",
            "--cluster-secret-file .*/missing does not exist; make one, the same for all nodes, with"
            r" `head -c 32 /dev/urandom \| base64 > .*/missing && chmod 600 .*/missing`",
        ),
        (".", "cannot read --cluster-secret-file .*: Is a directory"),
        ("pipe", "--cluster-secret-file .*/pipe is no regular file"),
    ):
        with pytest.raises(ConfigError) as refused:
            read_secret(tmp_path / name)
        assert re.fullmatch(sentence, naming_flags(str(refused.value)))


@pytest.mark.parametrize("secret", [b"s" * 31, "s" * 32])
def test_a_program_s_secret_is_bytes_and_long(secret: Any) -> None:
    """The library refuses another one by the name of the field."""
    with pytest.raises(ConfigError, match="`cluster_secret` must be at least 32 bytes"):
        NodeConfig(node_id=1, members=MEMBERS, data_dir=Path("d"), cluster_secret=secret)
