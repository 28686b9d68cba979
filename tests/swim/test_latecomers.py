"""News of a process that outruns the process' own record: what is told of it must be what others can hear."""

from inferencegw.swim.member import MemberState, Status
from inferencegw.swim.messages import Ack, Ping, SyncRecords, SyncWant

from .stage import EPOCH, ME, Stage, alive, status

ALIVE, SUSPECT, _, _ = MemberState
NEW = EPOCH + 1
THERE = ("elsewhere", 7946)


def suspected_restart() -> Stage:
    """``a`` was started again elsewhere, and all that has come of that is that ``b`` suspects it."""
    stage = Stage("a", "b", "c")
    stage.hear("b", records=[status("a", SUSPECT, 0, "b", epoch=NEW)])
    assert stage.held("a") == Status(NEW, 0, SUSPECT, "b")
    return stage


def test_who_is_known_by_a_suspicion_only_is_asked_for_its_record_and_not_held_alive_before() -> None:
    """ALIVE is told with metadata of its epoch or not at all: others refuse packets with its predecessor's."""
    stage = suspected_restart()
    sent = stage.hear("a", Ping(1, ME, EPOCH), epoch=NEW, incarnation=1, source=THERE)
    assert {type(out.kind) for out in sent if out.to == THERE} == {SyncWant, Ack}
    assert stage.state("a") is SUSPECT
    stage.hear("a", SyncRecords(), records=[alive("a", 1, NEW, address=THERE)], epoch=NEW, incarnation=1, source=THERE)
    held = stage.core.members["a"]
    assert held.status == Status(NEW, 1, ALIVE)
    assert held.meta is not None
    assert (held.meta.epoch, held.meta.address) == (NEW, THERE)
    assert [out.about("a") for out in stage.wait(0.2) if out.about("a")], "which is told, and can be heard"


def test_that_it_objects_is_a_sign_of_life_all_the_same() -> None:
    """Its last chance is as good as everybody's: while it speaks it is not declared dead."""
    stage = suspected_restart()
    for _ in range(60):
        stage.wait(0.5)
        stage.hear("a", epoch=NEW, incarnation=1, source=THERE)
    assert stage.state("a") is SUSPECT


def test_somebody_else_s_word_without_metadata_does_not_make_it_alive_either() -> None:
    """Whoever knows more sends more when views are compared."""
    stage = suspected_restart()
    stage.hear("b", records=[status("a", ALIVE, 1, epoch=NEW)])
    assert stage.state("a") is SUSPECT
