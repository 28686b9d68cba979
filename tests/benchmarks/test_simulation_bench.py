"""The benchmark of simulations, as far as a test should go: it compares like with like, and its shares are all."""

import cProfile

import pytest

from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import CHECKERS
from inferencegw.testing.scenario import Size
from tests.benchmarks.simulation import PACKAGE, measure, party, play, shares

SMALL = Size(replicas=2, clients=2, questions=2, tokens=8, seconds=2.0, faults=0)


def test_with_and_without_checkers_the_same_is_done() -> None:
    """As many tokens are delivered, so what one costs more than the other is the checkers'."""
    configure_logging("critical")
    watched, alone = (measure(1, SMALL, checkers) for checkers in (CHECKERS, ()))
    assert watched.tokens == alone.tokens > 0


def test_the_shares_are_all_of_the_time() -> None:
    """They add up to one, and who must be among them is."""
    configure_logging("critical")
    with cProfile.Profile() as profile:
        play(1, SMALL, CHECKERS)
    found = shares(profile)
    assert sum(found.values()) == pytest.approx(1.0)
    assert {"trio", "rpc", "membership", "testing: checkers", "testing: network and cluster"} <= found.keys()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (PACKAGE / "rpc" / "link.py", "rpc"),
        (PACKAGE / "swim" / "node.py", "membership"),
        (PACKAGE / "testing" / "checkers" / "leases.py", "testing: checkers"),
        (PACKAGE / "testing" / "streams.py", "testing: network and cluster"),
        ("/venv/lib/python3.11/site-packages/trio/_core/_run.py", "trio"),
        ("/usr/lib/python3.11/random.py", "the standard library"),
        ("~", "the standard library"),
    ],
)
def test_time_belongs_to_whose_code_it_is(file: object, expected: str) -> None:
    """A room of ours, a package, or what comes with Python."""
    assert party(str(file)) == expected
