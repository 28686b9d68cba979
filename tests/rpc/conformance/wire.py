"""Runs a case: sends its steps over a byte stream, waits for what comes, says the verdict.

The rule: this is the only module of the suite that does input and output, and it knows nothing of any case. It works
over any :class:`trio.abc.Stream`; where the streams come from (a socket to a running server, or a pair of memory
streams into one in this process) is its caller's business, and so is the clock: with trio's ``MockClock`` that jumps,
"nothing more comes" is decided in virtual time.

Beside every case a neighbour is connected to the same server, and asks for something when the case is over: whatever
one peer does, another is served (the paper on rpc, the last line of what must hold).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import attrs
import hpack
import trio

from .case import Case, Peer, get
from .frames import (
    ACK,
    END_HEADERS,
    PADDED,
    PREFACE,
    PRIORITY,
    Fields,
    Frame,
    FrameReader,
    Setting,
    Type,
    settings,
)
from .outcomes import End, Outcome, Verdict, answers
from .watch import Watch

__all__ = ["Connect", "Report", "Wire", "run_case"]

Connect: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]
Settle: TypeAlias = Callable[[], Awaitable[None]]

RECEIVE_OCTETS = 65_536


@attrs.frozen
class Report:
    """How one case went. ``came`` is every frame of the server after the handshake, for people."""

    case: Case
    verdict: Verdict
    detail: str
    came: tuple[str, ...]

    def __str__(self) -> str:
        frames = ", ".join(self.came[:12]) + (f", … ({len(self.came)} in all)" if len(self.came) > 12 else "")
        return f"{self.case}\n    expected: {self.detail}\n    came: {frames or 'nothing'}"


class Wire:
    """One client connection: frames in, octets out."""

    def __init__(self, stream: trio.abc.Stream, peer: Peer, patience: float) -> None:
        self.peer = peer
        self.breaches: list[str] = []
        self._stream = stream
        self._patience = patience
        self._reader = FrameReader()
        self._block = b""
        self._watch = Watch()
        self._judged = 0
        self._end = End.OPEN
        self._news = trio.Event()

    async def pump(self) -> None:
        """Read until the connection ends."""
        while self._end is not End.CLOSED:
            try:
                octets = await self._stream.receive_some(RECEIVE_OCTETS)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                octets = b""  # a reset is one way to close
            for frame in self._reader.feed(bytes(octets)):
                self._take(frame)
            if not octets:
                self._end = End.CLOSED
            self._news.set()

    def _take(self, frame: Frame) -> None:
        if frame.type in (Type.HEADERS, Type.CONTINUATION):
            self._block += _fragment(frame)
            if frame.flags & END_HEADERS:
                frame = attrs.evolve(frame, fields=self._decode())
        if frame.type == Type.SETTINGS and not frame.flags & ACK:
            pairs = [frame.payload[at : at + 6] for at in range(0, len(frame.payload), 6)]
            self.peer.settings.update((int.from_bytes(p[:2], "big"), int.from_bytes(p[2:], "big")) for p in pairs)
        self.breaches += self._watch.breaches(frame)
        self.peer.came.append(frame)

    def _decode(self) -> Fields:
        block, self._block = self._block, b""
        try:
            return tuple((str(name), str(value)) for name, value in self.peer.decoder.decode(block))
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            self.breaches.append(f"the server's header block cannot be decoded: {error!r}")
            return ()

    async def send(self, octets: bytes) -> None:
        """Send, unless the server has stopped listening: that shows in what comes, which is what is judged."""
        with trio.move_on_after(self._patience):
            try:
                await self._stream.send_all(octets)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.lowlevel.checkpoint()

    async def expect(self, outcome: Outcome) -> Verdict:
        """Wait until the frames since the last outcome decide this one."""
        start, end = self._judged, End.OPEN
        if (verdict := outcome.judge((), End.OPEN)) is not None:
            return verdict
        while end is End.OPEN:
            while self._judged < len(self.peer.came):
                self._judged += 1
                if verdict := outcome.judge(self.peer.came[start : self._judged], End.OPEN):
                    return verdict
            end = self._end if self._end is End.CLOSED else await self._wait()
        verdict = outcome.judge(self.peer.came[start : self._judged], end)
        assert verdict is not None, outcome
        return verdict

    async def _wait(self) -> End:
        """OPEN when there is news, SILENT when the patience has run out first."""
        self._news = trio.Event()
        with trio.move_on_after(self._patience):
            await self._news.wait()
            return End.OPEN
        return End.SILENT

    async def greet(self) -> Verdict:
        """Exchange prefaces and SETTINGS, both acknowledged."""
        await self.send(PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 65_535)))
        verdict = await self.expect(_Greeted())
        await self.send(settings(flags=ACK))
        return verdict


@attrs.frozen
class _Greeted:
    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        acks = {bool(frame.flags & ACK) for frame in came if frame.type == Type.SETTINGS}
        if acks == {True, False}:
            return Verdict.RIGHT
        return None if end is End.OPEN else Verdict.WRONG

    def __str__(self) -> str:
        return "the server's SETTINGS, and an acknowledgement of ours"


def _fragment(frame: Frame) -> bytes:
    """The piece of a header block in a HEADERS or CONTINUATION frame."""
    payload = frame.payload
    if frame.type == Type.HEADERS and frame.flags & PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if frame.type == Type.HEADERS and frame.flags & PRIORITY else payload


async def run_case(
    case: Case, connect: Connect, *, authority: str, patience: float, settle: Settle | None = None
) -> Report:
    """Run one case on a connection of its own, beside a neighbour.

    ``settle``, where given, is awaited after every piece sent: with it the server has dealt with each frame before it
    sees the next; without it they come in one flight.
    """
    async with await connect() as near, await connect() as stream, trio.open_nursery() as nursery:
        neighbour = Wire(near, Peer(authority), patience)
        wire = Wire(stream, Peer(authority), patience)
        nursery.start_soon(neighbour.pump)
        nursery.start_soon(wire.pump)
        met = await neighbour.greet()
        verdict, detail = await _follow(case, wire, settle)
        if verdict is not Verdict.SKIPPED:
            verdict, detail = _also(verdict, detail, "; ".join(wire.breaches + neighbour.breaches))
            await neighbour.send(get(1)(neighbour.peer))
            served = await neighbour.expect(answers(1))
            verdict, detail = _also(
                verdict, detail, "" if met is served is Verdict.RIGHT else "a neighbour is not served"
            )
        nursery.cancel_scope.cancel()
    return Report(case, verdict, detail, tuple(map(str, wire.peer.came)))


def _also(verdict: Verdict, detail: str, breach: str) -> tuple[Verdict, str]:
    return (Verdict.WRONG, f"{detail}; but {breach}") if breach else (verdict, detail)


async def _follow(case: Case, wire: Wire, settle: Settle | None) -> tuple[Verdict, str]:
    """Send and wait, step by step; the first outcome that is not kept ends it."""
    if case.greets and await wire.greet() is not Verdict.RIGHT:
        return Verdict.WRONG, str(_Greeted())
    verdict, detail = Verdict.RIGHT, ""
    for step in case.steps(wire.peer):
        if isinstance(step, bytes) or callable(step):
            await wire.send(step if isinstance(step, bytes) else step(wire.peer))
            if settle is not None:
                await settle()
            continue
        verdict, detail = await wire.expect(step), str(step)
        if verdict is not Verdict.RIGHT:
            break
    return verdict, detail
