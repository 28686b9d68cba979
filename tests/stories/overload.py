"""Ten times as much as the replicas can do, offered to a gateway for a while, and what came of each call.

The rule: what they can do is measured first, in the same run and by the same clock, with twice as many callers as there
are slots; so a busy machine moves the mark and what is held against it alike. Calls are offered whether or not earlier
ones have been answered, which is what makes an overload. The same body is played in virtual time in the default run.
"""

import math
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from inferencegw.errors import StatusCode
from inferencegw.rpc import Channel
from inferencegw.v1.gateway_pb2 import InferRequest
from tests.gateway.house import Asked

__all__ = ["Overload", "overload"]

TIMES: Final = 10
"""How much is offered, in times of what can be done."""


@attrs.frozen(kw_only=True)
class Overload:
    """What came of it. Seconds, and calls a second.

    Attributes:
        seconds: for which calls were offered.
        capacity: calls that were answered a second while nobody was refused.
        service: that a call took then, once it had its slot.
        admitted: calls of the overload that ended OK, all of them.
        refused: all others.
        goodput: calls that ended OK a second, while calls were offered.
    """

    seconds: float
    capacity: float
    service: float
    admitted: Sequence[Asked]
    refused: Sequence[Asked]
    goodput: float

    @property
    def offered(self) -> float:
        """Calls a second."""
        return (len(self.admitted) + len(self.refused)) / self.seconds

    @property
    def refusals(self) -> set[tuple[StatusCode | None, str]]:
        """With what calls were refused, and why."""
        return {(one.code, str(one.reason)) for one in self.refused}

    @property
    def pushbacks(self) -> list[float]:
        """Seconds after which those that were refused were told to come again, in order; infinity: they were not."""
        said = (float(one.trailers.get("grpc-retry-pushback-ms", math.inf)) for one in self.refused)
        return sorted(milliseconds / 1000 for milliseconds in said)

    def wait(self, share: float) -> float:
        """In which ``share`` of those admitted had their first token."""
        return _share([one.ttft for one in self.admitted], share)

    def refusal(self, share: float) -> float:
        """In which ``share`` of the others were refused."""
        return _share([one.ended_at - one.began for one in self.refused], share)

    def __str__(self) -> str:
        waits = "/".join(f"{self.wait(share):.2f}" for share in (0.5, 0.99, 1))
        refusals = "/".join(f"{1000 * self.refusal(share):.1f}" for share in (0.5, 0.99, 1))
        return (
            f"capacity {self.capacity:.1f}/s ({self.service:.2f} s a call), offered {self.offered:.1f}/s for"
            f" {self.seconds:.0f} s: goodput {self.goodput:.1f}/s ({self.goodput / self.capacity:.1%});"
            f" {len(self.admitted)} admitted, first token after {waits} s; {len(self.refused)} refused after"
            f" {refusals} ms (p50/p99/max), told to come again in {self.pushbacks[0]:.2f} to {self.pushbacks[-1]:.2f} s"
        )


async def overload(channel: Channel, *, slots: int, tokens: int, measured: float, seconds: float) -> Overload:
    """Measure for ``measured`` seconds what can be done with ``slots``, then offer ten times that for ``seconds``.

    Calls are for ``tokens`` tokens each.
    """
    capacity, service = await _capacity(channel, slots, tokens, measured)
    interval = 1 / (TIMES * capacity)
    asked: list[Asked] = []
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        for number in range(round(seconds / interval)):
            await trio.sleep_until(began + number * interval)
            asked.append(_ask(nursery, channel, tokens, number))
    admitted = [one for one in asked if one.code is StatusCode.OK]
    return Overload(
        seconds=seconds,
        capacity=capacity,
        service=service,
        admitted=admitted,
        refused=[one for one in asked if one.code is not StatusCode.OK],
        goodput=_rate([one.ended_at for one in admitted if one.ended_at <= began + seconds], slots),
    )


async def _capacity(channel: Channel, slots: int, tokens: int, seconds: float) -> tuple[float, float]:
    """Calls a second with every slot busy all the time, and the seconds of one from its first token to its end."""
    done: list[Asked] = []

    async def caller(name: int) -> None:
        while True:
            one = _ask(nursery, channel, tokens, name)
            await one.finish()
            assert one.code is StatusCode.OK, f"{one.code} {one.message}"
            done.append(one)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for name in range(2 * slots):
                nursery.start_soon(caller, name)
            await trio.sleep(seconds)
            scope.cancel()
    lengths = [one.ended_at - one.times[0] for one in done]
    return _rate([one.ended_at for one in done], slots), _share(lengths, 0.5) * tokens / (tokens - 1)


def _ask(nursery: trio.Nursery, channel: Channel, tokens: int, number: int) -> Asked:
    one = Asked(trio.current_time())
    request = InferRequest(prompt=f"call {number}", max_tokens=tokens)
    nursery.start_soon(one.run, channel, request, math.inf, ())
    return one


def _rate(moments: Sequence[float], slots: int) -> float:
    """Calls a second that ended at ``moments``, from the first round of ``slots`` to the last whole one.

    Calls of equal length that began together end together: a window that is not of whole rounds has luck in it.
    """
    ordered = sorted(moments)
    rounds = len(ordered) // slots
    return (rounds - 1) * slots / (ordered[rounds * slots - 1] - ordered[slots - 1])


def _share(values: Sequence[float], share: float) -> float:
    """The least value that ``share`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]
