"""The supervisor's task tree: who keeps whom up, and in which order a cluster goes down.

The rule: children outlive what gives orders about them, and replicas outlive gateways.

::

    run_supervisor
    └─ root nursery           dies only with the process
       ├─ signals             SIGTERM, SIGINT -> leave; the second one, or one before all are ready, ends it at once
       └─ Supervisor.run
          └─ keepers          one task per child
             └─ connections   one task per client of the manager's port
                └─ listen     innermost: the first to stop

Leaving takes it down from the inside: no more orders; then all gateways, which stop accepting and let their calls
finish, for which they need their replicas; then all replicas, which have nothing to do any more.
"""

import random
import signal
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import structlog
import trio

from inferencegw.cli._exit import CommandError
from inferencegw.cli.supervisor.journal import Listener
from inferencegw.cli.supervisor.keeper import Keeper
from inferencegw.cli.supervisor.plan import Plan
from inferencegw.cli.supervisor.servicer import ReplicaManagerServicer
from inferencegw.cli.supervisor.upkeep import Upkeep
from inferencegw.config import address_text, split_address
from inferencegw.rpc import Server
from inferencegw.rpc.health import HealthServicer, ServingStatus
from inferencegw.rpc.reflection import reflection_services
from inferencegw.v1 import manager_pb2

__all__ = ["Supervisor", "run_supervisor"]

HOST: Final = "127.0.0.1"
"""Orders are taken from this machine only."""

SERVICE: Final = manager_pb2.DESCRIPTOR.services_by_name["ReplicaManager"].full_name

GOODBYE_TIMEOUT: Final = 1.0
"""Seconds that clients of the manager's port have to close. High: one that does not delays the end. Low: an answer may
be lost."""

_log = structlog.get_logger(__name__)


class Supervisor:
    """Keeps the cluster of ``plan`` up, in whatever task tree it is given.

    Args:
        plan: whom it has.
        version: the replicas' at first.
        patience: seconds from SIGTERM until a child is ended less kindly.
        manager_port: where it takes orders; 0 for a free one.
        listener: makes what is called with the lines of a child's log, by the child's name.
        rng: spreads restarts.
        tls: what orders are taken over; in clear without.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        version: str,
        patience: float,
        manager_port: int,
        listener: Callable[[str], Listener],
        rng: random.Random,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        def keeper(name: str, arguments: Callable[[], list[str]], version: str = "") -> Keeper:
            return Keeper(name, arguments, listener(name), patience, Upkeep(rng, version))

        self._plan = plan
        self._manager_port = manager_port
        self._tls = tls
        self._leaving = trio.Event()
        self._gateways = {
            name: keeper(name, partial(self._gateway, number)) for number, name in enumerate(plan.gateway_names)
        }
        self._replicas = {name: keeper(name, partial(self._replica, name), version) for name in plan.replica_names}

    async def run(self, *, task_status: trio.TaskStatus[dict[str, tuple[str, int]]] = trio.TASK_STATUS_IGNORED) -> None:
        """Run it until :meth:`leave`; reports where everybody serves, and where orders are taken, once all are ready.

        Raises:
            ExceptionGroup: with ChildErrors: a child did not get ready the first time; with a CommandError: the
                manager's port cannot be had.
        """
        health, orders = HealthServicer(), ReplicaManagerServicer(self._replicas)
        health.set(SERVICE, ServingStatus.NOT_SERVING)
        services = [orders.service, health.service]
        server = Server([*services, *reflection_services(services)], ssl_context=self._tls)
        first, *others = self._gateways.values()
        async with trio.open_nursery() as keepers:
            async with trio.open_nursery() as connections:
                # Before anybody is started: a port that is taken is not worth a cluster that goes down again.
                manager = await self._listen(server, connections)
                await keepers.start(first.run)  # the others join it
                await _all(partial(keepers.start, keeper.run) for keeper in (*others, *self._replicas.values()))
                orders.are_taken = True
                health.set(SERVICE, ServingStatus.SERVING)
                task_status.started({**self._served(), "manager": manager})
                await self._leaving.wait()
                health.drain()
                server.drain(trio.current_time())
                connections.cancel_scope.deadline = trio.current_time() + GOODBYE_TIMEOUT
            await _all(keeper.stop for keeper in self._gateways.values())
            await _all(keeper.stop for keeper in self._replicas.values())
            keepers.cancel_scope.cancel()

    def leave(self) -> None:
        """Take everything down in order: :meth:`run` returns when it is."""
        self._leaving.set()

    def kill(self) -> None:
        """``kill -9`` for every child."""
        for keeper in (*self._gateways.values(), *self._replicas.values()):
            keeper.kill()

    async def _listen(self, server: Server, connections: trio.Nursery) -> tuple[str, int]:
        try:
            address: tuple[str, int] = await connections.start(
                partial(server.listen, HOST, self._manager_port, connections=connections)
            )
        except OSError as error:
            place = address_text((HOST, self._manager_port))
            raise CommandError(
                f"cannot listen on {place}: {error.strerror}: choose another --manager-port (0: a free one)"
            ) from error
        return address

    def _served(self) -> dict[str, tuple[str, int]]:
        """Where each child takes calls, by its name, and where others may join."""
        keepers = {**self._gateways, **self._replicas}
        seed = next(iter(self._gateways.values())).addresses["gossip"]
        places = {name: keeper.addresses["grpc"] for name, keeper in keepers.items()}
        http = {
            f"{name}-http": keeper.addresses["http"] for name, keeper in keepers.items() if "http" in keeper.addresses
        }
        return {name: split_address(place) for name, place in {**places, **http, "gossip": seed}.items()}

    def _gateway(self, number: int) -> list[str]:
        name = self._plan.gateway_names[number]
        return self._plan.gateway(number, self._gateways[name].addresses, self._joins(name))

    def _replica(self, name: str) -> list[str]:
        return self._plan.replica(name, self._replicas[name].upkeep.version, self._joins(name))

    def _joins(self, name: str) -> list[str]:
        """Where the others gossip: gateways come back to where they were, replicas do not."""
        gateways = [keeper for keeper in self._gateways.values() if keeper.addresses]
        replicas = [keeper for keeper in self._replicas.values() if keeper.child is not None]
        return [keeper.addresses["gossip"] for keeper in (*gateways, *replicas) if keeper.name != name]


async def _all(actions: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do all of them side by side."""
    async with trio.open_nursery() as nursery:
        for action in actions:
            nursery.start_soon(action)


async def run_supervisor(supervisor: Supervisor, tell: Callable[[dict[str, tuple[str, int]]], object]) -> int:
    """Run it as this process until it has been told to leave and has; ``tell`` is called once all are ready.

    The result is the signal that has ended it at once, 0 where it went down in order.
    """
    ready, at_once = False, 0

    async def obey_signals(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal at_once
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as arrivals:
            task_status.started()
            number = await anext(arrivals)
            if ready:
                _log.info("supervisor.leaving", signal=signal.Signals(number).name)
                supervisor.leave()
                number = await anext(arrivals)
        _log.warning("supervisor.ending_at_once", signal=signal.Signals(number).name)
        at_once = number
        supervisor.kill()
        root.cancel_scope.cancel()

    async with trio.open_nursery() as root:
        await root.start(obey_signals)
        async with trio.open_nursery() as serving:
            tell(await serving.start(supervisor.run))
            ready = True
        root.cancel_scope.cancel()  # there is nothing left to be signalled about
    return at_once
