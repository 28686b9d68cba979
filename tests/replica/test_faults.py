"""FaultPlan: how faults are written, what they mean, and that equal plans mean the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.errors import ConfigError
from inferencegw.replica.faults import RULES, TOKEN_KINDS, Fault, FaultKind, FaultPlan
from inferencegw.v1 import replica_pb2

indexes = st.integers(0, 2**32 - 1)
rates = st.floats(0, 1, exclude_min=True)
factors = st.floats(0, 1000, exclude_min=True)
VALUES = {
    FaultKind.REJECT: st.just(1),
    FaultKind.ERROR: rates,
    FaultKind.SLOW: factors,
    **dict.fromkeys(TOKEN_KINDS, indexes),
}
faults = st.sampled_from(FaultKind).flatmap(lambda kind: st.builds(Fault, st.just(kind), VALUES[kind]))
plans = st.builds(FaultPlan, st.lists(faults, unique_by=lambda fault: fault.kind).map(tuple), st.integers(0, 2**64 - 1))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("reject", Fault(FaultKind.REJECT)),
        ("error=0.2", Fault(FaultKind.ERROR, 0.2)),
        ("slow=3", Fault(FaultKind.SLOW, 3)),
        ("crash@10", Fault(FaultKind.CRASH, 10)),
        ("close@3", Fault(FaultKind.CLOSE, 3)),
        ("truncate@7", Fault(FaultKind.TRUNCATE, 7)),
        ("freeze@5", Fault(FaultKind.FREEZE, 5)),
        ("repeat@4", Fault(FaultKind.REPEAT, 4)),
        ("skip@4", Fault(FaultKind.SKIP, 4)),
    ],
)
def test_each_fault_has_its_spelling(text: str, fault: Fault) -> None:
    """One row for each kind there is."""
    assert FaultPlan.parse(text).faults == (fault,)


def test_faults_are_written_with_commas_between_them() -> None:
    """Spaces do not matter, and nothing is no fault."""
    assert FaultPlan.parse(" slow=3 , crash@10 ", seed=7) == FaultPlan(
        (Fault(FaultKind.SLOW, 3), Fault(FaultKind.CRASH, 10)), seed=7
    )
    assert FaultPlan.parse("") == FaultPlan.parse(" ") == FaultPlan()


@pytest.mark.parametrize(
    ("text", "bad", "allowed"),
    [
        (
            "crash@1,fizzle@3",
            "'fizzle@3'",
            "must be one of reject, error=RATE, slow=FACTOR, crash@TOKEN, close@TOKEN",
        ),
        ("crash", "'crash'", "crash@TOKEN"),
        ("crash=1", "'crash=1'", "crash@TOKEN"),
        ("slow@2", "'slow@2'", "slow=FACTOR"),
        ("reject=1", "'reject=1'", "reject, "),
        ("skip@1,,slow=2", "''", "must be one of"),
        ("crash@ten", "'crash@ten'", "must be crash@TOKEN, with TOKEN a whole number from 0"),
        ("crash@-1", "crash_at_token = -1", "must be a whole number from 0"),
        ("error=much", "'error=much'", "must be error=RATE, with RATE above 0 and at most 1"),
        ("error=1.5", "error_rate = 1.5", "must be above 0 and at most 1"),
        ("error=nan", "error_rate = nan", "must be above 0 and at most 1"),
        ("slow=0", "slow_factor = 0.0", "must be above 0 and at most 1000"),
        ("slow=2,slow=3", "'slow=3'", "slow must not be given twice"),
    ],
)
def test_a_spelling_that_cannot_be_used_is_named_with_what_is_allowed(text: str, bad: str, allowed: str) -> None:
    """Only the bad part, in one line."""
    with pytest.raises(ConfigError) as caught:
        FaultPlan.parse(text)
    message = str(caught.value)
    assert bad in message
    assert allowed in message
    assert "\n" not in message


@given(plans)
def test_a_plan_reads_as_it_is_written(plan: FaultPlan) -> None:
    """What ``str`` writes, ``parse`` reads."""
    assert FaultPlan.parse(str(plan), seed=plan.seed) == plan


@given(plans)
def test_a_plan_survives_the_wire(plan: FaultPlan) -> None:
    """Fault for fault, in order, with the seed."""
    message = replica_pb2.FaultPlan.FromString(plan.to_proto().SerializeToString())
    assert FaultPlan(tuple(map(Fault.from_proto, message.faults)), message.seed) == plan


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (replica_pb2.FaultSpec(), "fault is not given"),
        (replica_pb2.FaultSpec(gossip_drop_rate=0.5), "fault is gossip_drop_rate: must be one of reject_all"),
        (replica_pb2.FaultSpec(reject_all=False), "fault reject_all = False: must be true"),
        (replica_pb2.FaultSpec(error_rate=2), "fault error_rate = 2.0: must be above 0 and at most 1"),
    ],
)
def test_a_fault_from_the_wire_that_cannot_be_used_is_named(spec: replica_pb2.FaultSpec, complaint: str) -> None:
    """Gossip faults included: this replica does not gossip, and says so rather than nothing."""
    with pytest.raises(ConfigError, match=complaint):
        Fault.from_proto(spec)


def test_a_new_fault_replaces_one_of_its_kind() -> None:
    """At most one of each, the latest last."""
    plan = FaultPlan.parse("crash@1,slow=2").with_fault(Fault(FaultKind.CRASH, 9))
    assert str(plan) == "slow=2.0,crash@9"


@pytest.mark.parametrize("kind", TOKEN_KINDS)
@given(index=st.integers(0, 50))
def test_a_fault_happens_at_its_token_and_at_no_other(kind: FaultKind, index: int) -> None:
    """So that a continuation past it is not hit again."""
    plan = FaultPlan((Fault(kind, index),))
    assert [at for at in range(60) if plan.at_token(at) is not None] == [index]
    assert plan.at_token(index) is kind


def test_of_several_faults_at_one_token_the_most_violent_happens() -> None:
    """In the order of TOKEN_KINDS."""
    plan = FaultPlan()
    for kind in reversed(TOKEN_KINDS):
        plan = plan.with_fault(Fault(kind, 3))
        assert plan.at_token(3) is kind


@given(rates, st.integers(0, 2**64 - 1))
def test_the_same_calls_are_refused_again(rate: float, seed: int) -> None:
    """The error rate draws from the seed and the number of the call, and from nothing else."""
    first, second = (FaultPlan((Fault(FaultKind.ERROR, rate),), seed) for _ in range(2))
    assert [first.rejects(number) for number in range(50)] == [second.rejects(number) for number in range(50)]


def test_an_error_rate_refuses_its_share() -> None:
    """Exactly 1,995 of 10,000 for this seed; all for a rate of 1; none without."""
    refused = {
        text: sum(FaultPlan.parse(text, seed=1).rejects(number) for number in range(10_000))
        for text in ("error=0.2", "error=1", "reject", "")
    }
    assert refused == {"error=0.2": 1995, "error=1": 10_000, "reject": 10_000, "": 0}


def test_every_fault_of_the_proto_has_a_rule_but_those_of_gossip() -> None:
    """A field that is added to the proto and forgotten here fails this."""
    fields = {field.name for field in replica_pb2.FaultSpec.DESCRIPTOR.fields}
    assert fields - {rule.field for rule in RULES.values()} == {"gossip_drop_rate", "gossip_delay"}
    assert set(RULES) == set(FaultKind)
