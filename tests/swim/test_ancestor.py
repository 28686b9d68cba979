"""The unit tests of the system that this one descends from, by their names, against this one's classes.

Its two that are about a socket (sending and receiving, and a receive that times out) are the shell's; the address is
read by :func:`~inferencegw.swim.meta.parse_address`.
"""

import pytest

from inferencegw.swim.dissemination import BroadcastQueue
from inferencegw.swim.effects import MemberChanged
from inferencegw.swim.member import MemberState
from inferencegw.swim.meta import parse_address

from .stage import ME, Stage, alive, status

ALIVE, SUSPECT, DEAD, LEFT = MemberState


def test_add_and_get() -> None:
    """A member that was added can be looked up."""
    stage = Stage("a")
    assert stage.core.members["a"] == alive("a")
    assert "b" not in stage.core.members


def test_alive_excludes_self() -> None:
    """Nobody probes or gossips to itself."""
    stage = Stage("a", "b")
    assert sorted(stage.core._node.roster.schedule.sample(9)) == ["a", "b"]
    assert stage.core._node.roster.alive_others == 2


def test_higher_incarnation_wins() -> None:
    """Whatever the state."""
    stage = Stage("a", "b")
    stage.hear("b", records=[status("a", SUSPECT, 1, "b")])
    stage.hear("b", records=[alive("a", 2)])
    assert stage.held("a") == alive("a", 2).status


def test_lower_incarnation_is_ignored() -> None:
    """It is old."""
    stage = Stage("a", "b")
    stage.hear("b", records=[alive("a", 5)])
    stage.hear("b", records=[status("a", SUSPECT, 4, "b"), status("a", DEAD, 3), alive("a", 2)])
    assert stage.held("a") == alive("a", 5).status


def test_at_an_equal_incarnation_the_stronger_state_wins() -> None:
    """ALIVE, SUSPECT, DEAD, in this order."""
    stage = Stage("a", "b")
    held = []
    for news in (status("a", SUSPECT, 0, "b"), alive("a"), status("a", DEAD), status("a", SUSPECT, 0, "b"), alive("a")):
        stage.hear("b", records=[news])
        held.append(stage.state("a"))
    assert held == [SUSPECT, SUSPECT, DEAD, DEAD, DEAD]


def test_refutation() -> None:
    """A suspected member objects with a higher incarnation."""
    stage = Stage("a")
    stage.hear("a", records=[status(ME, SUSPECT, 0, "a")])
    assert stage.held(ME) == alive(ME, 1).status


def test_dead_incarnation_rules() -> None:
    """The same or a lower incarnation does not revive the dead, a higher one does."""
    stage = Stage("a", "b")
    stage.hear("b", records=[status("a", DEAD, 3)])
    stage.hear("b", records=[alive("a", 2), alive("a", 3)])
    assert stage.state("a") is DEAD
    stage.hear("b", records=[alive("a", 4)])
    assert stage.state("a") is ALIVE


def test_mark_suspect_and_dead() -> None:
    """One that does not answer goes through both."""
    stage = Stage("a")
    states = []
    while stage.state("a") is not DEAD:
        stage.wait_for_timer()
        states.append(stage.state("a"))
    assert sorted(set(states)) == [ALIVE, SUSPECT, DEAD]


def test_self_increment() -> None:
    """Each thing that we have to say of ourselves is one more."""
    stage = Stage("a")
    counts = []
    for number in range(3):
        stage.hear("a", records=[status(ME, SUSPECT, number, "a")])
        counts.append(stage.core.incarnation)
    assert counts == [1, 2, 3]


def test_piggyback_buffer() -> None:
    """News is taken a bounded number of times, and replaced by newer news of the same member."""
    news = BroadcastQueue(10)
    news.put("a", b"suspected")
    news.put("a", b"refuted")
    assert [news.take(100, 2) for _ in range(3)] == [[b"refuted"], [b"refuted"], []]


def test_callback_on_state_change() -> None:
    """Each change is reported once, with what was and what is."""
    stage = Stage("a", "b")
    for _ in range(2):
        stage.hear("b", records=[status("a", SUSPECT, 0, "b")])
    changes = [effect for effect in stage.effects if isinstance(effect, MemberChanged)]
    assert [(change.before, change.after.status.state) for change in changes] == [(alive("a"), SUSPECT)]


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8080", ("127.0.0.1", 8080)), ("host:1", ("host", 1)), ("[::1]:65535", ("::1", 65_535))],
)
def test_address_parse(text: str, address: tuple[str, int]) -> None:
    """Host and port."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:x", "host:0", "host:65536", "::1:1", "[]:1"])
def test_address_parse_refuses_what_is_none(text: str) -> None:
    """One error, whatever it is."""
    with pytest.raises(ValueError, match="of an address is not one"):
        parse_address(text)
