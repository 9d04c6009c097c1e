"""`record`: what is frozen for the type checker behaves as a value at run time."""

from dataclasses import replace

import pytest

from raftkv_trio.raft.types import Entry


def test_records_are_equal_and_hash_by_value() -> None:
    """Equal fields make equal records, in sets too; `replace` makes another record."""
    entry = Entry(1, 2, data=b"x")
    assert {entry, Entry(1, 2, data=b"x")} == {entry}
    assert replace(entry, index=3) == Entry(1, 3, data=b"x") != entry


def test_a_record_has_no_field_that_its_class_does_not_name() -> None:
    """A misspelled field is an error where it is written."""
    with pytest.raises(AttributeError):
        setattr(Entry(1, 2), "idnex", 3)  # noqa: B010  # mypy refuses the plain assignment
