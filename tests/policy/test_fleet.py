"""policy/fleet.py: the totals are the sums, whatever happened."""

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.breaker import BreakerState
from inferencegw.policy.candidate import REPORT_LIFETIME, Candidate
from inferencegw.policy.fleet import Fleet
from inferencegw.policy.outcome import Outcome


class FleetMachine(RuleBasedStateMachine):
    """Replicas come, go, work, report and fail; every total is compared with what it is the total of."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.fleet: Fleet[Candidate] = Fleet()
        self.all: list[Candidate] = []
        self.there: dict[tuple[str, str], Candidate] = {}
        self.reports: dict[Candidate, tuple[float, int]] = {}

    @rule(
        name=st.sampled_from("abcd"),
        model=st.sampled_from(["m", "n"]),
        weight=st.sampled_from([0.1, 0.5, 1.0, 3.0]),
        capacity=st.integers(0, 3),
    )
    def come(self, name: str, model: str, weight: float, capacity: int) -> None:
        """A process, perhaps one that takes another's name."""
        candidate = Candidate(replica_id=name, model=model, weight=weight, max_capacity=capacity)
        self.all.append(candidate)
        self.fleet.add(candidate)
        self.there[model, name] = candidate

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        """One of all that ever came, whether it is there or not."""
        candidate = data.draw(st.sampled_from(self.all))
        self.fleet.discard(candidate)
        if self.there.get((candidate.model, candidate.replica_id)) is candidate:
            del self.there[candidate.model, candidate.replica_id]

    @precondition(lambda self: self.all)
    @rule(
        data=st.data(), what=st.sampled_from(["take", "release", "resize", "report", "fault"]), count=st.integers(0, 4)
    )
    def change(self, data: st.DataObject, what: str, count: int) -> None:
        """Something about one of them."""
        candidate = data.draw(st.sampled_from(self.all))
        match what:
            case "take":
                self.fleet.take(candidate)
            case "release" if candidate.leases:
                self.fleet.release(candidate)
            case "resize":
                self.fleet.resize(candidate, count)
            case "report":
                self.fleet.report(candidate, count, self.now)
                self.reports[candidate] = self.now, count
            case "fault":
                candidate.breaker.settle(candidate.breaker.acquire(), Outcome.FAULT, self.now)
                self.fleet.note_breaker(candidate)
            case _:
                pass  # nothing is held

    @rule(seconds=st.sampled_from([0.1, 1.0, REPORT_LIFETIME]))
    def wait(self, seconds: float) -> None:
        """Time passes; reports wear off."""
        self.now += seconds

    @invariant()
    def totals_are_sums(self) -> None:
        """Of those that are there, by model."""
        for model in ("m", "n"):
            group = self.fleet.group(model, self.now)
            members = {name: one for (its, name), one in self.there.items() if its == model}
            if group is None:
                assert not members
                continue
            assert group.members == members
            assert group.free == {name: one for name, one in members.items() if one.leases < one.max_capacity}
            assert group.load == sum(max(one.leases, self.reported(one)) for one in members.values())
            assert group.weight == math.fsum(one.weight for one in members.values())
            assert group.unsound == sum(one.breaker.state is not BreakerState.CLOSED for one in members.values())
            assert {*group.ring.walk(7)} == set(members)
        assert sorted(self.fleet.models) == sorted({model for model, _ in self.there})
        assert {*self.fleet} == {*self.there.values()}

    def reported(self, candidate: Candidate) -> int:
        """What it said, if that was said lately."""
        when, active = self.reports.get(candidate, (-math.inf, 0))
        return active if self.now < when + REPORT_LIFETIME else 0


TestFleetMachine = FleetMachine.TestCase


def test_no_model_is_the_only_model_there_is() -> None:
    """And nothing where there are two, or none."""
    fleet: Fleet[Candidate] = Fleet()
    assert fleet.group("", 0.0) is None
    fleet.add(Candidate(replica_id="a", model="m"))
    assert fleet.group("", 0.0) is fleet.group("m", 0.0)
    fleet.add(Candidate(replica_id="b", model="n"))
    assert fleet.group("", 0.0) is None


def test_a_newcomer_warms_up_from_a_tenth_to_the_whole() -> None:
    """Linearly, and from its first moment to its last."""
    newcomer = Candidate(replica_id="a", warm_from=100.0, warm_at=110.0)
    assert [round(newcomer.warmth(now), 6) for now in (99.0, 100.0, 105.0, 110.0, 200.0)] == [0.1, 0.1, 0.55, 1.0, 1.0]
    assert Candidate(replica_id="b").warmth(0.0) == 1.0


def test_a_report_of_no_room_does_not_end_being_busy() -> None:
    """It says the same as the refusal did."""
    candidate = Candidate(replica_id="a", busy_until=5.0, max_capacity=4)
    candidate.note_report(4, 1.0)
    assert candidate.busy_until == 5.0


def test_a_report_ends_being_busy() -> None:
    """It was full; what it says since is fresher than that."""
    candidate = Candidate(replica_id="a", busy_until=5.0)
    candidate.note_report(3, 1.0)
    assert (candidate.busy_until, candidate.load, candidate.report_ends) == (-math.inf, 3, 1.0 + REPORT_LIFETIME)
