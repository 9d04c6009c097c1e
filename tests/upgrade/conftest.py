"""The version before feature levels, from the repository's history; and an HTTP client."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.integration.conftest import http

__all__ = ["http"]

ROOT = Path(__file__).parents[2]
#: The last commit before there were feature levels.
BEFORE_LEVELS = "afe5eb2"


@pytest.fixture(scope="session")
def old_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package as it was before feature levels; skips if the history is not there."""
    try:
        archive = subprocess.run(
            ["git", "-C", ROOT, "archive", "--format=tar", BEFORE_LEVELS, "raftkv_trio"],
            capture_output=True,
            check=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no git, which has the version to upgrade from")
    except subprocess.CalledProcessError as error:  # an sdist, or a shallow clone
        pytest.skip(f"the version to upgrade from is not here: {error.stderr.decode().strip()}")
    directory = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(directory, filter="data")
    return directory
