"""swim/roster.py: every index says what walking all members would say, after anything that can happen to them."""

import random

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.member import MemberState, Meta, Record, Status
from inferencegw.swim.roster import Roster
from inferencegw.swim.sync import view_digest

ALIVE, SUSPECT, DEAD, LEFT = MemberState
NAMES = [f"m{number}" for number in range(8)]

steps = st.lists(
    st.tuples(st.sampled_from([*NAMES, "own", "forget"]), st.sampled_from(MemberState), st.integers(0, 3)), max_size=60
)


@given(steps, st.randoms(use_true_random=False))
def test_indices_and_digest_are_what_a_walk_over_all_members_finds(
    script: list[tuple[str, MemberState, int]], rng: random.Random
) -> None:
    """The incremental digest equals the one that is added up anew; the dead are in no index; the forgotten nowhere."""
    roster = Roster(Record("own", Status(1, 0, ALIVE), Meta(epoch=1, address=("own", 1))), rng)
    for name, state, incarnation in script:
        if name == "forget":
            dead = [one.member_id for one in roster.members.values() if one.status.state > SUSPECT]
            for one in dead:
                if one != "own":
                    roster.forget(one)
        else:
            meta = Meta(epoch=1, incarnation=incarnation, address=(name, 1))
            roster.put(Record(name, Status(1, incarnation, state), meta))
        held = roster.members
        live = sorted(one for one, record in held.items() if record.status.state <= SUSPECT)
        others = [one for one in live if one != "own"]
        assert roster.digest == view_digest(held.values())
        assert sorted(roster.schedule.sample(99)) == others
        assert roster.size == len(others) + 1
        assert roster.alive_others == sum(held[one].status.state is ALIVE for one in others)
        assert roster.live_between("", "") == live
        assert roster.live_between("m2", "m5") == [one for one in live if "m2" < one <= "m5"]
        assert [roster.address(one) for one in held] == [(one, 1) for one in held]
        assert roster.own is held["own"]
