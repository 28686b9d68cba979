"""membership/observer.py: what is published, and when it is worth a new view."""

import random
from typing import cast

import structlog

from inferencegw.membership import Cluster
from inferencegw.membership.observer import Observer
from inferencegw.swim.config import FAST
from inferencegw.swim.member import Meta
from inferencegw.swim.protocol import SwimProtocol
from tests.membership.scripted import EPOCH, ScriptedCore, record
from tests.membership.support import ALIVE, DEAD, SUSPECT


def observed() -> tuple[ScriptedCore, Observer, Cluster]:
    """A core that is alone, and who observes it from time 1.0 on."""
    core = ScriptedCore("n1", ("127.0.0.1", 1), Meta(), FAST, rng=random.Random(0), now=1.0, wall_at_zero=0.0)
    cluster = Cluster()
    return core, Observer(cluster, cast("SwimProtocol", core), 1.0), cluster


def test_the_first_view_is_of_oneself() -> None:
    """Heard, of course, and there since the beginning."""
    _, _, cluster = observed()
    [own] = cluster.view.members.values()
    assert (cluster.view.local, own.member_id, own.heard_from, own.rtt, own.since) == ("n1", "n1", True, None, 1.0)


def test_members_are_published_in_the_order_in_which_they_were_heard_of() -> None:
    """Not in that of a set, which differs from process to process: others connect to them in this order."""
    core, observer, cluster = observed()
    names = [f"n{number}" for number in range(2, 40)]
    for name in names:
        observer.note_change(core.hold(record(name)), 2.0)
    observer.publish()
    assert list(cluster.view.members) == ["n1", *names]


def test_since_is_when_state_or_epoch_changed_and_nothing_else() -> None:
    """News of load or metadata does not make a state younger; a restart does, though it is ALIVE as before."""
    core, observer, cluster = observed()
    steps = [
        (2.0, core.hold(record("n2")), 2.0),
        (3.0, core.load("n2", 5), 2.0),
        (4.0, core.hold(record("n2", SUSPECT)), 4.0),
        (5.0, core.hold(record("n2", DEAD)), 5.0),
        (6.0, core.hold(record("n2", ALIVE, epoch=EPOCH + 1)), 6.0),
        (7.0, core.hold(record("n2", ALIVE, epoch=EPOCH + 2)), 7.0),
    ]
    for now, change, since in steps:
        observer.note_change(change, now)
        observer.publish()
        assert cluster.view.members["n2"].since == since


def test_only_changes_of_state_are_logged() -> None:
    """With what it was before, and who suspects; a death is a warning."""
    core, observer, _ = observed()
    with structlog.testing.capture_logs() as lines:
        observer.note_change(core.hold(record("n2")), 2.0)
        observer.note_change(core.load("n2", 5), 2.0)
        for state in (SUSPECT, DEAD):
            observer.note_change(core.hold(record("n2", state)), 2.0)
    assert [(line["log_level"], line["member_id"], line["before"], line["state"]) for line in lines] == [
        ("info", "n2", None, "ALIVE"),
        ("info", "n2", "ALIVE", "SUSPECT"),
        ("warning", "n2", "SUSPECT", "DEAD"),
    ]


def test_that_a_member_has_spoken_is_news_without_an_effect() -> None:
    """Routing waits for it."""
    core, observer, cluster = observed()
    observer.note_change(core.hold(record("n2")), 2.0)
    observer.publish()
    before = cluster.view
    assert not before.members["n2"].heard_from
    observer.publish()
    assert cluster.view is before, "nothing is new"
    core.heard.add("n2")
    observer.publish()
    assert cluster.view.members["n2"].heard_from


def test_round_trip_times_are_no_news_and_of_this_moment_after_a_refresh() -> None:
    """They change with every probe."""
    core, observer, cluster = observed()
    observer.note_change(core.hold(record("n2")), 2.0)
    observer.publish()
    before = cluster.view
    core.rtts["n2"] = 0.25
    observer.publish()
    assert cluster.view is before
    assert observer.refresh().members["n2"].rtt == 0.25
    assert cluster.view is not before


def test_what_was_pruned_is_gone_from_the_next_view() -> None:
    """And if it comes back, it is new."""
    core, observer, cluster = observed()
    observer.note_change(core.hold(record("n2", DEAD)), 2.0)
    observer.publish()
    core.forget("n2")
    observer.note_pruned("n2")
    observer.publish()
    assert list(cluster.view.members) == ["n1"]
    observer.note_change(core.hold(record("n2")), 9.0)
    observer.publish()
    assert cluster.view.members["n2"].since == 9.0


def test_views_are_left_as_they_are() -> None:
    """The next one is another object."""
    core, observer, cluster = observed()
    first = cluster.view
    observer.note_change(core.hold(record("n2")), 2.0)
    observer.publish()
    assert list(first.members) == ["n1"]


def test_who_wants_a_view_between_two_effects_sees_what_has_been_told_so_far() -> None:
    """Sending one waits, and others run meanwhile: the core is then ahead of what the observer was told."""
    core, observer, cluster = observed()
    change = core.hold(record("n2"))
    assert set(observer.refresh().members) == {"n1"}
    observer.note_change(change, 2.0)
    assert set(observer.refresh().members) == {"n1", "n2"}
    again = core.hold(record("n2", DEAD))
    observer.note_pruned("n2")
    assert set(observer.refresh().members) == {"n1"}
    observer.note_change(again, 3.0)
    observer.publish()
    assert cluster.view.state_of("n2") is DEAD
