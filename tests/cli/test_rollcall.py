"""What the demo makes of its looks at the cluster."""

from typing import Final

import pytest

from inferencegw.cli._rollcall import MembersSeen, ReplicaKilled, ReplicaRestarted, RollCall
from tests.cli.rolls import a_look, a_member

REPLICAS: Final = ("r1", "r2", "r3")


def roll_of(*looks: MembersSeen) -> RollCall:
    """A roll-call that has seen these."""
    roll = RollCall(REPLICAS)
    for look in looks:
        roll.handle_look(look.members)
    return roll


def test_a_replica_that_is_seen_for_the_first_time_is_found() -> None:
    """The gateway is a member too, and no news."""
    roll = RollCall(REPLICAS)
    gateway = a_member("g0", epoch=1)
    assert roll.handle_look([gateway]) == []
    assert roll.handle_look([gateway, a_member("r2")]) == ["gossip: r2 is found, ALIVE on 127.0.0.1:40002"]
    assert roll.handle_look([gateway, a_member("r2")]) == []


def test_the_show_can_begin_when_all_are_alive_and_connected() -> None:
    """A replica of which the gateway has only heard cannot be sent a prompt yet."""
    assert not roll_of().are_found(REPLICAS)
    assert not roll_of(a_look(a_member("r2", "SUSPECT"))).are_found(REPLICAS)
    assert not roll_of(a_look(a_member("r2", connected=False))).are_found(REPLICAS)
    assert roll_of(a_look()).are_found(REPLICAS)


def test_the_killed_one_is_followed_from_suspicion_to_death_to_return_with_the_seconds_of_each() -> None:
    """The moments are the gossip's own; back is who is another process, ALIVE, and connected."""
    roll = roll_of(a_look())
    told = roll.handle_kill(ReplicaKilled("r2", 4711, at=10.0))
    standing = []
    for look in (
        a_look(a_member("r2", "SUSPECT", since=10.3)),
        a_look(a_member("r2", "DEAD", since=11.5)),
        ReplicaRestarted("r2", at=11.75),
        a_look(a_member("r2", epoch=4000, since=12.5, connected=False)),
        a_look(a_member("r2", epoch=4000, since=12.5)),
    ):
        told += roll.handle_restart(look) if isinstance(look, ReplicaRestarted) else roll.handle_look(look.members)
        standing.append((roll.is_declared_dead, roll.is_back))
    assert standing == [(False, False), (True, False), (True, False), (True, False), (True, True)]
    assert told == [
        "kill -9 4711: replica r2 is gone, in the middle of its streams",
        "gossip: r2 is SUSPECT, 0.30 s after kill -9",
        "gossip: r2 is DEAD, 1.50 s after kill -9",
        "r2 is started again, under its name and on another port",
        "gossip: r2 is ALIVE again 0.75 s after its start, its epoch 3.00 s later",
    ]
    assert roll.summary() == ["r2 SUSPECT 0.30 s, DEAD 1.50 s after kill -9", "r2 ALIVE again 0.75 s after its start"]
    assert roll.mistakes == []


def test_a_look_that_misses_the_suspicion_is_no_harm() -> None:
    """What is not seen is not told; DEAD is DEAD."""
    roll = roll_of(a_look())
    roll.handle_kill(ReplicaKilled("r2", 4711, at=10.0))
    roll.handle_look(a_look(a_member("r2", "DEAD", since=11.5)).members)
    assert roll.is_declared_dead
    assert roll.summary() == ["r2 DEAD 1.50 s after kill -9"]


def test_the_killed_process_is_not_back_by_being_alive_still() -> None:
    """Until the gossip notices, the dead look like the living: only a later epoch is a return."""
    roll = roll_of(a_look())
    roll.handle_kill(ReplicaKilled("r2", 4711, at=10.0))
    roll.handle_look(a_look().members)
    assert not roll.is_back
    assert roll.summary() == ["r2 kill -9"]


def test_a_suspicion_of_the_living_is_told_and_forgiven() -> None:
    """A busy machine makes one now and then; the member refutes it."""
    roll = roll_of(a_look())
    told = roll.handle_look(a_look(a_member("r3", "SUSPECT")).members)
    told += roll.handle_look(a_look().members)
    assert told == ["gossip: r3 is SUSPECT", "gossip: r3 is ALIVE"]
    assert roll.mistakes == []


@pytest.mark.parametrize("state", ["DEAD", "LEFT"])
def test_that_one_whom_nobody_killed_is_dead_or_gone_is_a_mistake(state: str) -> None:
    """Also of the one that was killed, once it is back."""
    roll = roll_of(a_look(), a_look(a_member("r3", state)))
    roll.handle_kill(ReplicaKilled("r2", 4711, at=10.0))
    roll.handle_look(a_look(a_member("r2", "DEAD")).members)
    roll.handle_restart(ReplicaRestarted("r2", at=12.0))
    roll.handle_look(a_look(a_member("r2", epoch=4000)).members)
    roll.handle_look(a_look(a_member("r2", state, epoch=4000)).members)
    assert roll.mistakes == [
        f"r3 was declared {state}, and nobody had ended it",
        f"r2 was declared {state}, and nobody had ended it",
    ]


def test_only_the_killed_one_has_a_note() -> None:
    """First what the gossip made of the kill, then how soon it was back."""
    roll = roll_of(a_look())
    roll.handle_kill(ReplicaKilled("r2", 4711, at=10.0))
    assert (roll.note(roll.members["r1"]), roll.note(roll.members["r2"])) == ("", "kill -9")
    for state, since in (("SUSPECT", 10.25), ("DEAD", 11.5)):
        roll.handle_look(a_look(a_member("r2", state, since=since)).members)
    assert roll.note(roll.members["r2"]) == "SUSPECT 0.25 s, DEAD 1.50 s after kill -9"
    roll.handle_restart(ReplicaRestarted("r2", at=12.0))
    roll.handle_look(a_look(a_member("r2", epoch=4000, since=12.5)).members)
    assert roll.note(roll.members["r2"]) == "ALIVE again 0.50 s after its start"
