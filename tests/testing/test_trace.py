"""The record of a simulation."""

import hashlib

from inferencegw.testing import trace
from inferencegw.testing.trace import Trace


def test_the_digest_is_that_of_all_lines_though_only_the_last_are_kept() -> None:
    """A long simulation is compared as a whole, in bounded memory."""
    record, lines = Trace(), [f"line {number}" for number in range(trace.MAX_LINES + 700)]
    for line in lines:
        record.add(line)
    assert record.digest() == hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert list(record.lines) == lines[-trace.MAX_LINES :]
    assert len(record) == len(lines)


def test_looking_does_not_change_the_digest() -> None:
    """It is of the lines, not of when somebody looked."""
    looked, unseen = Trace(), Trace()
    for line in "abc":
        looked.add(line)
        looked.digest()
        unseen.add(line)
    assert looked.digest() == unseen.digest()
