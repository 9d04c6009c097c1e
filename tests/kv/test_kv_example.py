"""The front door of the store: the example in its docstring runs as it is printed."""

import doctest

from raftkv_trio import kv


def test_the_example_runs_as_it_is_printed() -> None:
    """Every statement of the docstring runs and prints what is written below it."""
    example = doctest.DocTestParser().get_doctest(kv.__doc__ or "", {}, "kv", kv.__file__, 0)
    result = doctest.DocTestRunner().run(example)
    assert result.failed == 0
    assert result.attempted >= 12
