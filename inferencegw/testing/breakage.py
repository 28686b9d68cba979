"""What can be done to a cluster, and undone.

The rule: every verb writes down what it does before it does it, and what it mends, too
(:mod:`~inferencegw.testing.history`); and it acts at once, whatever comes of it.
"""

from collections.abc import Iterable
from itertools import permutations, product
from typing import Any, Final

import trio

from inferencegw.replica.faults import Fault
from inferencegw.rpc import Method, open_channel
from inferencegw.testing.history import Disturbance, History, Kind
from inferencegw.testing.nodes import Node
from inferencegw.testing.underlay import Underlay
from inferencegw.v1 import replica_pb2

__all__ = ["INJECT", "Breakable"]

_FAULTS: Final = replica_pb2.DESCRIPTOR.services_by_name["FaultInjection"]
INJECT: Final = Method.of(_FAULTS, "InjectFault")
CLEAR: Final = Method.of(_FAULTS, "ClearFaults")

PATIENCE: Final = 5.0
"""Seconds for a replica to take an order."""


class Breakable:
    """The processes on ``network``, and the verbs that break them and the ways between them.

    Attributes:
        network: what they run on; its finer verbs may be used too, after :meth:`disturb`.
        nodes: the latest process of each name, running or not.
        history: what was done.
    """

    def __init__(self, network: Underlay) -> None:
        self.network: Final = network
        self.nodes: Final[dict[str, Node]] = {}
        self.history: Final = History()
        self._frozen: set[str] = set()

    # -- processes ---------------------------------------------------------------------------------------------------

    def crash(self, name: str, *, silent: bool = False, eof: bool = False) -> None:
        """As kill -9 of a node or a client: its kernel resets its connections, or with ``eof`` closes them in order.

        With ``silent`` as when the power fails: nor does its kernel say anything.
        """
        now = trio.current_time()
        # Behind a cut its kernel's last words are lost: to those on the other side it is as if there were none.
        unheard = silent or self.history.touching({name}, now, now, (Kind.CUT, Kind.HOLD))
        self.disturb(Kind.POWER if unheard else Kind.CRASH, {name})
        if name in self.nodes:
            self.nodes[name].crashed = trio.current_time()
        self._frozen.discard(name)
        self.history.end({Kind.FREEZE}, {name})
        self.network.crash(name, silent=silent, eof=eof)

    def leave(self, name: str, *, kind: Kind = Kind.STOP) -> None:
        """As SIGTERM; does not wait for what comes of it."""
        self.disturb(kind, {name})
        self.nodes[name].stopping = True
        self.nodes[name].process.drain()

    async def stop(self, name: str) -> None:
        """As SIGTERM; returns when it has drained, said goodbye and ended."""
        self.leave(name)
        await self.nodes[name].ended.wait()

    def freeze(self, name: str) -> None:
        """As SIGSTOP."""
        self.disturb(Kind.FREEZE, {name})
        self._frozen.add(name)
        self.network.freeze(name)

    def thaw(self, name: str) -> None:
        """As SIGCONT."""
        self.history.end({Kind.FREEZE}, {name})
        self._frozen.discard(name)
        self.network.thaw(name)

    def thaw_all(self) -> None:
        """Nothing frozen can end."""
        for name in sorted(self._frozen):
            self.thaw(name)

    async def inject(self, name: str, fault: str) -> None:
        """Tell a replica to misbehave: ``"crash@10"``, ``"slow=3"``, ... as ``trio-gw replica --fault`` has it.

        Raises:
            RpcError: it cannot be told.
        """
        self.disturb(Kind.FAULT, {name}, detail=fault)
        await self._order(name, INJECT, replica_pb2.InjectFaultRequest(fault=Fault.parse(fault).to_proto()))

    async def clear_faults(self, name: str) -> None:
        """Tell it to behave again."""
        await self._order(name, CLEAR, replica_pb2.ClearFaultsRequest())
        self.history.end({Kind.FAULT}, {name})

    async def _order(self, name: str, method: Method, request: Any) -> None:
        async def ask() -> None:
            async with open_channel(*self.nodes[name].own_door) as channel:
                await channel.unary(method, request, deadline=trio.current_time() + PATIENCE)

        await self.network.host(name).run(ask)

    # -- the ways between them ---------------------------------------------------------------------------------------

    def partition(self, *sides: Iterable[str]) -> None:
        """Let nothing through between any two sides."""
        named = [tuple(side) for side in sides]
        self.disturb(Kind.CUT, sides=named)
        self.network.partition(*named)

    def unite(self, *sides: Iterable[str]) -> None:
        """Undo that partition."""
        named = [tuple(side) for side in sides]
        self.history.end({Kind.CUT}, sides=named)
        for side, other in permutations(named, 2):
            for sender, receiver in product(side, other):
                self.network.mend(sender, receiver)

    def cut(self, sender: str, receiver: str) -> None:
        """Let nothing through that way; the other way is another cut."""
        self.disturb(Kind.CUT, sides=[[sender], [receiver]])
        self.network.cut(sender, receiver)

    def mend(self, sender: str, receiver: str) -> None:
        """Undo a cut."""
        self.history.end({Kind.CUT}, sides=[[sender], [receiver]])
        self.network.mend(sender, receiver)

    def hold(self, one: str, other: str) -> None:
        """Keep everything between these two waiting."""
        self.disturb(Kind.HOLD, sides=sorted([[one], [other]]))
        self.network.hold(one, other)

    def release(self, one: str, other: str) -> None:
        """Deliver what was held."""
        self.history.end({Kind.HOLD}, sides=sorted([[one], [other]]))
        self.network.release(one, other)

    def slow(self, name: str, factor: float) -> None:
        """Let everything to and from it take ``factor`` times as long; 1 is normal."""
        self.history.end({Kind.SLOW}, {name})
        if factor != 1:
            self.disturb(Kind.SLOW, {name}, detail=f"x{factor:g}")
        self.network.slow(name, factor)

    def set_loss(self, share: float) -> None:
        """Lose this share of all datagrams."""
        self.history.end({Kind.LOSS})
        if share:
            self.disturb(Kind.LOSS, detail=f"{share:.0%}")
        self.network.set_loss(share)

    def repair(self) -> None:
        """Mend the network; the crashed, the frozen and those told to misbehave stay so."""
        self.history.end({Kind.CUT, Kind.HOLD, Kind.SLOW, Kind.LOSS})
        self.network.repair()

    # -- the book ----------------------------------------------------------------------------------------------------

    def disturb(
        self, kind: Kind, hosts: Iterable[str] = (), *, detail: str = "", sides: Iterable[Iterable[str]] = ()
    ) -> None:
        """Write down what is about to be done to ``hosts``, or between ``sides``; for verbs of the network's own."""
        self.disturbed(self.history.begin(kind, hosts, detail=detail, sides=sides))

    def disturbed(self, disturbance: Disturbance) -> None:
        """Something is about to be done. Overridden by who wants to know."""
