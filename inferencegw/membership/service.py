"""The task that takes part in the gossip: one UDP socket, one :class:`~inferencegw.swim.protocol.SwimProtocol`.

The rule: one task alone touches the protocol's state machine, and gives it one input at a time: it performs all the
effects of an input before the next one. Everybody else puts an order in a queue and wakes the task; what they may look
at is the :class:`~inferencegw.membership.view.Cluster`.

On each waking all that waits in the socket is heard first, and only then are timers judged: after a stall the answers
that prove a member alive lie in the socket, and a timer that was late proves nothing (the core sees how late it is, and
starts it again). At most MAX_BATCH datagrams go before a look at the timers, so that a flood cannot hold them up.

Around it, for what takes time: a task that looks seeds up, again at each try, because names change; and one that reads
the keyring's file again.
"""

import math
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from typing import Any, Final, TypeAlias, assert_never

import attrs
import structlog
import trio

from inferencegw.config import MembershipConfig, is_loopback
from inferencegw.errors import ConfigError, MemberConflict
from inferencegw.membership.advertise import Place, find_place
from inferencegw.membership.datagrams import DatagramSocket, Nagging, open_socket, try_send
from inferencegw.membership.keys import KeyringFile, read_keyring
from inferencegw.membership.observer import Observer
from inferencegw.membership.seeds import seek
from inferencegw.membership.view import Cluster, ClusterView
from inferencegw.swim.effects import Conflict, Effect, MemberChanged, PacketDropped, Pruned, Send
from inferencegw.swim.envelope import MAX_DATAGRAM_BYTES
from inferencegw.swim.keyring import NONCE_BYTES
from inferencegw.swim.member import Address, MemberId, MemberRole, Meta
from inferencegw.swim.meta import address_text
from inferencegw.swim.protocol import SwimProtocol

__all__ = ["MembershipService"]

MAX_BATCH: Final = 256
"""Datagrams between two looks at the timers. High: timers are late in a flood. Low: after a stall members are judged
while their answers still lie in the socket."""

RECEIVE_BYTES: Final = MAX_DATAGRAM_BYTES + 1
"""What is read of a datagram: enough to see that it is too long."""

READ_PATIENCE: Final = 0.001
"""Seconds for reading what is there: a datagram with a wrong UDP checksum shows up as readable and is not."""

CLOCK_STEP: Final = 1.0
"""Seconds by which the wall clock must have been set for the protocol to be told. High: epochs may be off by as much.
Low: a clock that is slewed is told again and again."""

Order: TypeAlias = Callable[[float], Iterable[Effect]]

log = structlog.get_logger(__name__)


def _nonce() -> bytes:
    return os.urandom(NONCE_BYTES)


class MembershipService:
    """One process's membership.

    Args:
        config: who it is, where it listens, whom it joins.
        meta: what it says of itself; addresses are filled in here.
        rng: decides whom to probe and to gossip to.
        load: how busy this process is, asked on every waking.
        wall_clock: seconds since 1970; makes the epoch.
        nonce: bytes that never repeat, for sealing.
        open_socket: makes the socket; a test's may lose what it sends.
        make_core: makes the state machine.

    Attributes:
        cluster: what it sees.
    """

    def __init__(
        self,
        config: MembershipConfig,
        meta: Meta,
        *,
        rng: random.Random,
        load: Callable[[], int] | None = None,
        wall_clock: Callable[[], float] = time.time,
        nonce: Callable[[], bytes] = _nonce,
        open_socket: Callable[[Place], Awaitable[DatagramSocket]] = open_socket,
        make_core: Callable[..., SwimProtocol] = SwimProtocol,
    ) -> None:
        self.cluster: Final = Cluster()
        self._config = config
        self._meta = meta
        self._rng = rng
        self._load = load
        self._told_load: int | None = None
        self._wall_clock = wall_clock
        self._wall_at_zero = 0.0
        self._nonce = nonce
        self._open_socket = open_socket
        self._make_core = make_core
        self._core: SwimProtocol | None = None
        self._orders: deque[Order] = deque()
        self._nap = trio.CancelScope()
        self._announced = trio.Event()
        self._leaving = False
        self._over = False
        self._ended = trio.Event()
        self._place: Place | None = None
        self._observer: Observer | None = None
        self._keyring_file: KeyringFile | None = None
        self._dropped = Nagging("datagrams dropped")
        self._unsent = Nagging("datagrams not sent")

    # -- what others may ask and order ------------------------------------------------------------------------------

    @property
    def member_id(self) -> MemberId:
        """What this member is called; empty until it has started."""
        return self.cluster.view.local

    @property
    def epoch(self) -> int:
        """When this process started, as the others know it, in milliseconds since 1970; 0 until it has started."""
        return 0 if self._core is None else self._core.epoch

    @property
    def has_met_others(self) -> bool:
        """Whether it has ever known another member."""
        return self._observer is not None and self._observer.has_met_others

    def join(self, grpc_port: int) -> None:
        """Begin to look for the others, and tell them that gRPC is served at ``grpc_port``."""
        assert self._place is not None, "it has not started"
        self.set_meta(grpc_address=address_text((self._place.grpc_host, grpc_port)))
        self._announced.set()

    def set_meta(self, **changes: Any) -> None:
        """Say something new of this member, e.g. ``draining=True``; nothing happens if it is not new."""
        meta = attrs.evolve(self._meta, **changes)
        if meta != self._meta:
            self._meta = meta
            if self._core is not None:
                self._give(partial(self._core.set_meta, meta))

    async def leave(self) -> None:
        """Say goodbye, and end :meth:`run` when there was time to hear it; returns when it has ended.

        Cancelling the caller does not cut the goodbye short; cancelling :meth:`run` does.
        """
        if self._core is not None and not self._leaving:
            self._give(self._core.leave)
            self._leaving = True
        with trio.move_on_after(self._config.swim.leave_linger, shield=True):
            await self._ended.wait()
        self._over = True
        self._wake()
        await self._ended.wait()

    def reload(self) -> None:
        """Read the keyring's file now, and not only when it is next looked at."""
        if self._keyring_file is not None:
            self._keyring_file.look()

    def refresh(self) -> ClusterView:
        """The latest view, with the round-trip times of this moment."""
        return self.cluster.view if self._observer is None else self._observer.refresh()

    def statistics(self) -> Mapping[str, int]:
        """Counts for metrics and tests: the protocol's own, and what could not be sent."""
        counts = {} if self._core is None else dict(self._core.statistics())
        return counts | {"unsent": self._unsent.total}

    # -- the task ---------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until :meth:`leave` is through; reports the address at which others reach it.

        Nobody is told before :meth:`join`: there is an epoch now, and not yet a gRPC address.

        Raises:
            ConfigError: the keyring cannot be used, or the others could not reach it; nothing was started.
            OSError: it cannot listen where it should; its ``filename`` is the address.
            MemberConflict: another process has its name.
        """
        config = self._config
        try:
            keyring = None if config.keyring_file is None else read_keyring(config.keyring_file)
            place = self._place = await find_place(config)
            with closing(await self._open_socket(place)) as sock:
                address = (place.host, sock.getsockname()[1])
                now = trio.current_time()
                self._wall_at_zero = self._wall_clock() - now
                core = self._core = self._make_core(
                    config.id or self._default_id(place),
                    address,
                    self._fitting_meta(place),
                    config.swim,
                    rng=self._rng,
                    now=now,
                    wall_at_zero=self._wall_at_zero,
                    label=config.cluster,
                    keyring=keyring,
                    nonce=self._nonce,
                )
                observer = self._observer = Observer(self.cluster, core, now)
                async with trio.open_nursery() as helpers:
                    helpers.start_soon(self._seek, core, place, address[1])
                    if keyring is not None and config.keyring_file is not None:
                        self._keyring_file = KeyringFile(config.keyring_file, keyring)
                        helpers.start_soon(self._keyring_file.follow)
                    task_status.started(address)
                    await self._take_part(core, sock, observer)
                    helpers.cancel_scope.cancel()
        finally:
            self._ended.set()

    def _default_id(self, place: Place) -> MemberId:
        if self._config.port:
            return address_text((place.host, self._config.port))
        # A port that the system chooses is another one after a restart, and so would a name made of it be.
        return f"{MemberRole(self._meta.role).name.lower()}-{self._rng.getrandbits(32):08x}"

    def _fitting_meta(self, place: Place) -> Meta:
        """What to say of this member; ConfigError if, with all that may yet be added, it would not fit a packet."""
        longest = attrs.evolve(
            self._meta,
            address=(place.host, 65_535),
            grpc_address=address_text((place.grpc_host, 65_535)),
            cordoned=True,
            draining=True,
        )
        size, limit = len(longest.content), self._config.swim.max_meta_bytes
        if size > limit:
            raise ConfigError(
                f"model, model_version and advertise: with them the metadata has {size} bytes:"
                f" must have at most {limit}: choose shorter names"
            )
        return self._meta

    async def _seek(self, core: SwimProtocol, place: Place, port: int) -> None:
        """Look for the seeds, once there is something to announce."""
        await self._announced.wait()

        def announce(seeds: list[Address]) -> None:
            if is_loopback(place.host) and not all(is_loopback(host) for host, _ in seeds):
                # At the start this is a ConfigError; a name that changes later must not end a running process.
                log.error("seeds are beyond this machine and could not answer", advertised=place.host)
            else:
                self._give(partial(core.join, seeds))

        is_here = partial(place.is_here, port=port)
        await seek(self._config.join, place.family, self.cluster, is_here=is_here, announce=announce)

    async def _take_part(  # noqa: ASYNC910 - it is not over when it begins
        self, core: SwimProtocol, sock: DatagramSocket, observer: Observer
    ) -> None:
        while not self._over:
            await trio.lowlevel.checkpoint()
            now = trio.current_time()
            self._look_around(core, now)
            while self._orders:
                await self._perform(self._orders.popleft()(now), sock, observer)
            for number in range(MAX_BATCH):
                if number and not sock.is_readable():
                    break
                datagram = await self._receive(core, sock)
                if datagram is None:
                    break
                effects = core.handle_datagram_untrusted(*datagram, trio.current_time())
                await self._perform(effects, sock, observer)
            now = trio.current_time()
            if now >= core.next_deadline():
                await self._perform(core.handle_timeout(now), sock, observer)
            observer.publish()

    async def _receive(self, core: SwimProtocol, sock: DatagramSocket) -> tuple[bytes, Address] | None:
        """The next datagram; None at the next deadline, or where an order waits."""
        deadline = -math.inf if self._orders or self._over else core.next_deadline()
        if sock.is_readable():
            deadline = trio.current_time() + READ_PATIENCE
        try:
            # _wake() moves this scope's deadline.
            with trio.CancelScope(deadline=deadline) as self._nap:
                data, source = await sock.recvfrom(RECEIVE_BYTES)
                return data, (source[0], source[1])
        except ConnectionError:
            pass  # some systems report here that nobody listens where an earlier datagram went
        return None  # noqa: ASYNC910 - what failed has tried

    def _give(self, order: Order) -> None:
        """Let the task carry ``order`` out; after the goodbye nothing is ordered any more."""
        if not self._leaving:
            self._orders.append(order)
            self._wake()

    def _wake(self) -> None:
        self._nap.deadline = -math.inf

    def _look_around(self, core: SwimProtocol, now: float) -> None:
        """Tell the core what it cannot know: how busy this process is, and that the wall clock was set.

        The load is looked at rather than reported: it changes with every call, and travels only on packets that are
        sent anyway, which is once in a probe interval at least.
        """
        active = None if self._load is None else self._load()
        if active is not None and active != self._told_load:
            self._told_load = active
            self._give(partial(core.set_load, active))
        wall_at_zero = self._wall_clock() - now
        if abs(wall_at_zero - self._wall_at_zero) > CLOCK_STEP:
            log.warning("the wall clock was set", by=round(wall_at_zero - self._wall_at_zero, 3))
            self._wall_at_zero = wall_at_zero
            core.set_wall(wall_at_zero)

    async def _perform(  # noqa: ASYNC910 - whoever brings the effects has waited for their cause
        self, effects: Iterable[Effect], sock: DatagramSocket, observer: Observer
    ) -> None:
        for effect in effects:
            match effect:
                case Send(data, to):
                    error = await try_send(sock, data, to)
                    if error is not None:
                        self._unsent.add(str(error.strerror), to=address_text(to))
                case MemberChanged():
                    observer.note_change(effect, trio.current_time())
                case Pruned(member_id):
                    observer.note_pruned(member_id)
                case Conflict(_, message):
                    raise MemberConflict(message)
                case PacketDropped(reason, source, detail):
                    self._dropped.add(reason.value, source=address_text(source), detail=detail)
                case _:
                    assert_never(effect)
