"""policy/access.py: who is let in, what a refusal says, and what a new table does to what runs."""

from collections import Counter
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.access import Access, Denial, Denied
from inferencegw.policy.keys import KEY_BYTES, ApiKey, KeyTable, Role, hash_of, key_text
from inferencegw.policy.rate import LONGEST

OLD, NEW, OTHER = (key_text(bytes([number]) * KEY_BYTES) for number in (1, 2, 3))


def a_key(*secrets: str, name: str = "alice", **limits: Any) -> ApiKey:
    """The table's entry for these secrets."""
    return ApiKey(name, tuple(map(hash_of, secrets)), **limits)


def test_a_key_that_is_nobodys_is_refused_for_good() -> None:
    """There is nothing to come back for."""
    access: Access[int] = Access(KeyTable([a_key(OLD)]))
    assert access.try_admit(1, OTHER, 0.0) == Denied(Denial.UNKNOWN_KEY, None)


def test_who_may_not_give_orders_is_refused_and_not_charged_for_asking() -> None:
    """The one call that its rate allows is still its own; an admin's key does both."""
    access: Access[int] = Access(KeyTable([a_key(OLD, rate=1.0), a_key(NEW, name="root", role=Role.ADMIN)]))
    assert access.try_admit(1, OLD, 0.0, as_admin=True) == Denied(Denial.NOT_ADMIN)
    assert isinstance(access.try_admit(2, OLD, 0.0), ApiKey)
    assert isinstance(access.try_admit(3, NEW, 0.0, as_admin=True), ApiKey)
    assert isinstance(access.try_admit(4, NEW, 0.0), ApiKey)


def test_who_has_all_its_calls_running_is_told_how_soon_one_of_them_may_end() -> None:
    """By how many have ended lately; the longest pause where none has. A call that ends makes room for one."""
    access: Access[int] = Access(KeyTable([a_key(OLD, max_concurrent=2)]))
    assert isinstance(access.try_admit(1, OLD, 0.0), ApiKey)
    assert isinstance(access.try_admit(2, OLD, 0.0), ApiKey)
    assert access.try_admit(3, OLD, 0.0) == Denied(Denial.BUSY, LONGEST)
    access.release(1, 1.0)
    assert isinstance(access.try_admit(4, OLD, 1.0), ApiKey)
    assert access.try_admit(5, OLD, 1.0) == Denied(Denial.BUSY, 10.0)  # one in ten seconds
    assert access.statistics().running == {"alice": 2}


def test_who_comes_too_often_is_told_when_to_come_again_and_is_let_in_then() -> None:
    """To the moment; a call that was refused because others ran is not charged."""
    access: Access[int] = Access(KeyTable([a_key(OLD, rate=2.0, burst=1, max_concurrent=1)]))
    assert isinstance(access.try_admit(1, OLD, 0.0), ApiKey)
    assert access.try_admit(2, OLD, 0.5) == Denied(Denial.BUSY, LONGEST)
    access.release(1, 0.5)
    assert isinstance(access.try_admit(3, OLD, 0.5), ApiKey)
    access.release(3, 0.5)
    assert access.try_admit(4, OLD, 0.6) == Denied(Denial.RATE, 0.4)
    assert isinstance(access.try_admit(5, OLD, 1.0), ApiKey)


def test_while_a_key_is_changed_both_are_taken_and_count_as_one() -> None:
    """The limits are the name's, whichever of its keys is shown."""
    access: Access[int] = Access(KeyTable([a_key(OLD, NEW, max_concurrent=1)]))
    assert isinstance(access.try_admit(1, OLD, 0.0), ApiKey)
    assert isinstance(access.try_admit(2, NEW, 0.0), Denied)


def test_a_new_table_names_the_calls_whose_key_is_gone_or_may_less() -> None:
    """One that stays, and one that may more than before, go on; the names' counts survive."""
    before = [
        a_key(OLD, NEW, max_concurrent=3),
        a_key(OTHER, name="root", role=Role.ADMIN),
    ]
    access: Access[int] = Access(KeyTable(before))
    assert all(
        isinstance(access.try_admit(call, shown, 0.0), ApiKey) for call, shown in ((1, OLD), (2, NEW), (3, OTHER))
    )
    assert access.replace(KeyTable([a_key(NEW, max_concurrent=2), before[1]])) == [1]
    assert access.try_admit(4, NEW, 0.0) == Denied(Denial.BUSY, LONGEST)
    assert access.try_admit(5, OLD, 0.0) == Denied(Denial.UNKNOWN_KEY)
    assert access.replace(KeyTable([a_key(NEW, role=Role.ADMIN), attrs.evolve(before[1], role=Role.CLIENT)])) == [1, 3]


def test_a_new_table_does_not_fill_the_bucket_of_a_key_whose_limits_stay() -> None:
    """Else each reload would be a burst for all."""
    table = KeyTable([a_key(OLD, rate=1.0, burst=1)])
    access: Access[int] = Access(table)
    assert isinstance(access.try_admit(1, OLD, 0.0), ApiKey)
    access.replace(KeyTable([a_key(OLD, rate=1.0, burst=1)]))
    assert access.try_admit(2, OLD, 0.0) == Denied(Denial.RATE, 1.0)
    access.replace(KeyTable([a_key(OLD, rate=1.0, burst=2)]))
    assert isinstance(access.try_admit(2, OLD, 0.0), ApiKey)


class AccessMachine(RuleBasedStateMachine):
    """Against a list of who runs: no limit is ever exceeded, and nothing that has ended is held."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = {OLD: a_key(OLD, max_concurrent=2), NEW: a_key(NEW, name="bob", rate=1.0, burst=3)}
        self.access: Access[int] = Access(KeyTable(self.keys.values()))
        self.running: dict[int, str] = {}
        self.now = 0.0
        self.serial = 0

    @rule(shown=st.sampled_from([OLD, NEW, OTHER]), pause=st.floats(0.0, 2.0))
    def admit(self, shown: str, pause: float) -> None:
        self.now += pause
        self.serial += 1
        answer = self.access.try_admit(self.serial, shown, self.now)
        if isinstance(answer, ApiKey):
            assert answer is self.access.table.keys[self.keys[shown].name]
            self.running[self.serial] = answer.name

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[call]
        self.access.release(call, self.now)
        self.access.release(call, self.now)  # a second time is nothing

    @rule(gone=st.sampled_from([OLD, NEW]))
    def take_back(self, gone: str) -> None:
        table = KeyTable(key for shown, key in self.keys.items() if shown != gone)
        ended = self.access.replace(table)
        assert sorted(ended) == sorted(one for one, name in self.running.items() if name == self.keys[gone].name)
        for call in ended:
            del self.running[call]
            self.access.release(call, self.now)
        self.access.replace(KeyTable(self.keys.values()))

    @invariant()
    def who_runs_is_known(self) -> None:
        counts = Counter(self.running.values())
        assert self.access.statistics().running == counts
        assert counts["alice"] <= 2


TestAccess = AccessMachine.TestCase
