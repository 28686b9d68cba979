"""Hypothesis's faults: any schedule that the seed runner could draw, and shrinks of it."""

from collections.abc import Sequence

from hypothesis import strategies as st

from inferencegw.testing.faults import LONGEST, MISDEEDS, Fault, FaultKind

__all__ = ["schedules"]


def schedules(replicas: Sequence[str], gateways: Sequence[str], seconds: float) -> st.SearchStrategy[tuple[Fault, ...]]:
    """Up to six faults that begin in the next ``seconds``."""
    everybody = [*replicas, *gateways]
    one = st.sampled_from(everybody).map(lambda name: (name,))
    replica = st.sampled_from(replicas).map(lambda name: (name,))
    two = st.permutations(everybody).map(lambda names: tuple(names[:2]))
    some = st.lists(st.sampled_from(replicas), min_size=1, unique=True).map(tuple)
    nobody = st.just(())
    at, lasts = st.floats(0.0, seconds), st.floats(0.5, LONGEST)

    def faults(
        kind: FaultKind, hosts: st.SearchStrategy[tuple[str, ...]], *details: object
    ) -> st.SearchStrategy[Fault]:
        detail = st.sampled_from(details) if details else st.just("")
        return st.builds(Fault, at, st.just(kind), hosts, lasts, detail)

    misdeeds = [deed.format(number) for deed in MISDEEDS for number in ((0, 3) if "{" in deed else (0,))]
    fault = st.one_of(
        faults(FaultKind.CRASH, one, "", "eof"),
        faults(FaultKind.POWER, replica),
        faults(FaultKind.STOP, one),
        faults(FaultKind.FREEZE, one),
        faults(FaultKind.PARTITION, some),
        faults(FaultKind.CUT, two),
        faults(FaultKind.HOLD, two),
        faults(FaultKind.SLOW, one, 3.0, 30.0),
        faults(FaultKind.LOSS, nobody, 0.1, 0.3),
        faults(FaultKind.MISBEHAVE, replica, *misdeeds),
    )
    return st.lists(fault, max_size=6).map(lambda drawn: tuple(sorted(drawn, key=lambda one: one.at)))
