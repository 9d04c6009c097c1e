"""The examples in the docstring of `raftkv_trio.testing` run as they stand, one after the other."""

import re
import runpy
import textwrap
from pathlib import Path

from raftkv_trio import testing
from raftkv_trio.testing import Simulation

COUNTER = Path(__file__).parents[2] / "examples" / "counter.py"


def examples() -> list[str]:
    """The indented blocks of the docstring."""
    assert testing.__doc__ is not None
    return [textwrap.dedent(block) for block in re.findall(r"(?:^ {4}.*\n)+", testing.__doc__, re.MULTILINE)]


def test_the_examples_run() -> None:
    """Every public name that they use is there, and what they assert holds."""
    names = {name: getattr(testing, name) for name in testing.__all__}
    names["Counter"] = runpy.run_path(str(COUNTER))["Counter"]
    assert len(examples()) == 2
    for example in examples():
        exec(example, names)
    assert isinstance(names["simulation"], Simulation)
    assert len(names["history"].operations) == 1
