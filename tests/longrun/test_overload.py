"""Ten times what three replicas can do, offered for half a minute to a gateway; all of them are processes.

The same in virtual time is in ``tests/stories/test_overload.py``, where what is bounded here is equal.
"""

from typing import Final

from inferencegw.config import split_address
from inferencegw.errors import StatusCode
from inferencegw.rpc import open_channel
from inferencegw.testing.processes import open_processes
from tests.stories.overload import overload

REPLICAS: Final = 3
SLOTS: Final = 4
"""Of each. With 50 ms a token the three answer some twenty calls a second: what offers two hundred of them, and the
gateway that refuses nine of ten, need a quarter of a processor each."""

QUEUE_SIZE: Final = 24
QUEUE_TIMEOUT: Final = 5.0

IMMEDIATE: Final = 0.1
"""Seconds in which 99 of 100 refusals are to have come: a twelfth of what those wait who are admitted."""


async def test_ten_times_the_capacity_costs_those_who_are_admitted_nothing() -> None:
    """Goodput stays; who is refused is told at once, why, and when to come again; who waits, waits no longer than the
    queue is long.
    """
    model = ["--token-delay-ms", "50", "--max-capacity", str(SLOTS)]
    limits = ["--queue-size", str(QUEUE_SIZE), "--queue-timeout", str(QUEUE_TIMEOUT)]
    async with open_processes(REPLICAS, replica_flags=model, gateway_flags=limits) as cluster:
        address = split_address(cluster.children["g1"].addresses["grpc"])
        async with open_channel(*address) as channel:
            result = await overload(channel, slots=REPLICAS * SLOTS, tokens=12, measured=10.0, seconds=30.0)
        print(result)
        assert result.offered > 9 * result.capacity
        assert result.goodput >= 0.95 * result.capacity
        assert result.refusals == {(StatusCode.RESOURCE_EXHAUSTED, "queue_full")}
        assert result.refusal(0.99) <= IMMEDIATE
        assert 0.0 < result.pushbacks[0] <= result.pushbacks[-1] <= QUEUE_TIMEOUT
        # Whoever comes last has the whole queue before it, and a call of each slot that has just begun.
        assert result.wait(0.99) <= (QUEUE_SIZE + 1) / result.goodput + result.service
        assert result.wait(1) <= QUEUE_TIMEOUT + result.service
        assert [replica.inflight for replica in (await cluster.status()).replicas] == [0] * REPLICAS
