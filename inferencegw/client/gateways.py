"""The gateways of one client, and its connections to them.

The rule: one of them takes its new calls, and it changes as seldom as it can: it is drawn at first, so that clients
spread over the gateways, and it is the next one of the list when its connection is lost, when it goes away (GOAWAY), or
when it cannot be connected to. A call that has failed at it may ask for another one, without moving the others.

There is one connection at a time to each gateway that takes calls, opened when it is first asked for, once, however
many calls wait for it; what still runs on one that takes no more ends there.
"""

import random
import ssl
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.abc

from inferencegw.config import RpcLimits, split_address
from inferencegw.errors import ConfigError, ConnectionLost, Metadata
from inferencegw.rpc.anyio_channel import AnyioChannel, open_anyio_channel

__all__ = ["Gateways"]


class Gateways:
    """See above.

    Args:
        addresses: ``host:port`` of each.
        rng: draws the first one.
        ssl_context: plain text without.
        limits: what one of them may make us hold, send or wait for.
        metadata: custom metadata of every call.

    Attributes:
        addresses: likewise; a gateway's number is its place here.

    Raises:
        ConfigError: an address is none, or is given twice; or there are none.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        rng: random.Random,
        *,
        ssl_context: ssl.SSLContext | None,
        limits: RpcLimits,
        metadata: Metadata = (),
    ) -> None:
        if not addresses:
            raise ConfigError("address: give at least one HOST:PORT of a gateway")
        for address in addresses:
            if addresses.count(address) > 1:
                raise ConfigError(f"address = {address!r}: is given twice: give it once")
        self.addresses = addresses
        self._gateways = [_Gateway(*split_address(address), ssl_context, limits, metadata) for address in addresses]
        self._first = rng.randrange(len(addresses)) if len(addresses) > 1 else 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect to one of them, and for the block to whichever is asked for.

        Raises:
            ConnectionLost: none could be reached.
        """
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as connections:
                for gateway in self._gateways:
                    gateway.begin(connections)
                try:
                    await self.connect()
                    yield
                except Exception as error:  # noqa: BLE001 - raised again below, outside the group that would wrap it
                    failure = error
                finally:
                    for gateway in self._gateways:
                        gateway.end()
                    # What is still open ends here; a client leaves nothing behind that needs a goodbye.
                    connections.cancel_scope.cancel()
        finally:
            # Also where the end was cut short: a cancellation does not say what has happened.
            if failure is not None:
                raise failure

    async def connect(self, avoided: Collection[int] = ()) -> tuple[int, AnyioChannel]:
        """A gateway for a new call, none of ``avoided`` unless they are all, and the channel to it.

        Raises:
            ConnectionLost: there was none, and none could be opened.
        """
        failures: list[ConnectionLost] = []
        while self._gateways[self._first].let_go():
            self._move_on(self._first)
        for number in self._in_order(avoided):
            try:
                return number, await self._gateways[number].connect()
            except ConnectionLost as failure:
                self._move_on(number)
                failures.append(failure)
        if len(failures) == 1:
            raise failures[0]
        reasons = "; ".join(failure.message for failure in failures)
        raise ConnectionLost(f"no gateway can be reached: {reasons}", maybe_processed=False)

    def _in_order(self, avoided: Collection[int]) -> list[int]:
        count = len(self._gateways)
        ring = [(self._first + step) % count for step in range(count)]
        return [number for number in ring if number not in avoided] or ring

    def _move_on(self, number: int) -> None:
        if number == self._first:
            self._first = (number + 1) % len(self._gateways)


class _Gateway:
    """One of them."""

    def __init__(
        self, host: str, port: int, ssl_context: ssl.SSLContext | None, limits: RpcLimits, metadata: Metadata
    ) -> None:
        self._host, self._port = host, port
        self._ssl_context = ssl_context
        self._limits = limits
        self._metadata = metadata
        self._connections: anyio.abc.TaskGroup | None = None
        self._connecting = anyio.Lock()
        self._channel: AnyioChannel | None = None

    def begin(self, connections: anyio.abc.TaskGroup) -> None:
        """Connections may be opened, in ``connections``."""
        self._connections = connections
        self._connecting = anyio.Lock()  # of this event loop; the one before may have been another's

    def end(self) -> None:
        """No more."""
        self._connections = None

    def let_go(self) -> bool:
        """Forget a connection that takes no more calls; whether there was one."""
        if self._channel is None or self._channel.accepts_calls:
            return False
        self._channel = None
        return True

    async def connect(self) -> AnyioChannel:
        """The channel for a new call.

        Raises:
            ConnectionLost: there was none, and none could be opened.
        """
        async with self._connecting:
            if self._connections is None:
                raise RuntimeError("generate() works in the client's block: async with AsyncClient(address) as client")
            if self._channel is None or not self._channel.accepts_calls:
                self._channel = await self._connections.start(self._hold)
            return self._channel

    async def _hold(self, *, task_status: anyio.abc.TaskStatus[AnyioChannel]) -> None:
        opening = open_anyio_channel(
            self._host, self._port, limits=self._limits, ssl_context=self._ssl_context, metadata=self._metadata
        )
        async with opening as channel:
            task_status.started(channel)
            await channel.wait_closed()
            self._limits = channel.next_limits
