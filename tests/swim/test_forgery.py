"""What one forged or copied datagram could do to a member that does not look twice, and does not."""

import pytest

from inferencegw.swim.effects import DropReason, PacketDropped
from inferencegw.swim.member import MemberState
from inferencegw.swim.messages import Ack, Packet, Ping, PingReq
from inferencegw.swim.node import AMPLIFICATION
from inferencegw.swim.prober import MAX_RELAYS
from inferencegw.swim.reception import MAX_SKEW

from .stage import EPOCH, ME, Out, Stage, alive, where
from .wire import datagram

ALIVE, SUSPECT, DEAD, LEFT = MemberState
VICTIM = ("victim", 9)


@pytest.mark.parametrize("epoch", [EPOCH + MAX_SKEW + 1, 2**64 - 1])
def test_a_namesake_from_the_far_future_is_not_outbid(epoch: int) -> None:
    """Whoever took an epoch later than that would be heard by nobody, and be held dead for good."""
    stage = Stage("a")
    assert stage.hear(ME, epoch=epoch, source=("elsewhere", 1)) == []
    stage.wait(5.0)
    assert stage.core.epoch == EPOCH
    [dropped] = [effect for effect in stage.effects if isinstance(effect, PacketDropped)]
    assert dropped.reason is DropReason.CLOCK_SKEW


def eager(stage: Stage) -> None:
    """Let there be more news than a packet holds."""
    for number in range(20):
        stage.hear("a", records=[alive(f"newcomer-{number}", model="m" * 100)])


def to_victim(sent: list[Out]) -> int:
    """Bytes that went there."""
    return sum(out.size for out in sent if out.to == VICTIM)


def test_a_helper_s_answers_are_no_more_than_three_times_the_request_of_an_address_that_never_answered() -> None:
    """They come later than the request, with a nack and an ack; the sum counts."""
    stage = Stage("a", "b", "c")
    eager(stage)
    data = datagram(Packet("a", EPOCH, 0, 500, 0, None, PingReq(7, "b", EPOCH, where("b")), ()))
    sent = stage.deliver(data, VICTIM)
    [ping] = [out.kind for out in sent if isinstance(out.kind, Ping) and out.to == where("b")]
    sent += stage.wait(0.3)
    sent += stage.hear("b", Ack(ping.sequence))
    assert [type(out.kind).__name__ for out in sent if out.to == VICTIM] == ["Nack", "Ack"]
    assert to_victim(sent) <= AMPLIFICATION * len(data)


def test_copies_of_what_an_earlier_process_asked_do_not_use_up_the_help_for_others() -> None:
    """Nobody remembers an earlier process' packets, so each copy would be heard, and helped."""
    stage = Stage("a", "b", "c")
    stage.hear("a", records=[alive("a", epoch=EPOCH + 1)], epoch=EPOCH + 1)
    request = PingReq(7, "b", EPOCH, where("b"))
    for _ in range(MAX_RELAYS):
        stage.hear("a", request, number=77)
        stage.hear("stranger", request, number=77)
    assert stage.core.statistics()["relays_refused"] == 2 * MAX_RELAYS
    assert [out.to for out in stage.hear("c", request)] == [where("b")]
