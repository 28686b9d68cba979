"""Every case of the conformance suite against our server: in this process, in virtual time, and some over real sockets.

The rule: our own tests want the RFC to the letter (``Verdict.RIGHT``), so they are stricter than the external suite.
Each case runs twice over memory streams, since a server must judge a frame the same whether it has dealt with the ones
before or reads them all at once: frame by frame, and in one flight. That nothing more comes is decided by trio's clock,
which jumps; that no task is left is decided by leaving the nursery that the connections run in.

``python -m tests.rpc.conformance HOST:PORT`` runs the same cases against a server of any kind.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio
import trio.testing

from inferencegw.config import RpcLimits
from inferencegw.rpc import Server, serve

from .conformance.case import Case
from .conformance.frames import Code, FrameReader, goaway, rst_stream
from .conformance.outcomes import End, Verdict, connection_error
from .conformance.suite import CASES, EXTERNAL
from .conformance.wire import Connect, run_case

PATIENCE: Final = 2.0
"""Virtual seconds of silence after which nothing more is expected."""

SOCKET_PATIENCE: Final = 10.0
"""The same in real ones. No case that runs over sockets waits for silence, so a slow machine may take its time."""

LEAVE: Final = 60.0
"""Virtual seconds in which a connection whose client is gone must have ended."""

LIMITS: Final = RpcLimits(max_streams=100)
"""Few streams, so that a case can spend the window of a connection, which is that of all its streams together."""

AUTHORITY: Final = "127.0.0.1:50051"

OVER_SOCKETS: Final = tuple(
    case for case in EXTERNAL if case.external.endswith("/1") and not case.external.startswith("generic/5")
)
"""The first case of each group: what differs between a socket and a memory stream does not differ between cases."""


@asynccontextmanager
async def in_memory() -> AsyncIterator[Connect]:
    """A server in this process; leaving waits until each of its connections has ended."""
    server = Server([], limits=LIMITS)

    async def connect() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        connections.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
        return ours

    async with trio.open_nursery() as connections:
        yield connect
        connections.cancel_scope.deadline = trio.current_time() + LEAVE
    assert not connections.cancel_scope.cancelled_caught, "a connection outlives its client"
    assert server.statistics().connections == 0


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_frames_in_one_flight_are_answered_as_the_rfc_says(
    case: Case, autojump_clock: trio.testing.MockClock
) -> None:
    """Whatever a client sends, the answer is the one the RFC names, and a neighbour is served."""
    async with in_memory() as connect:
        report = await run_case(case, connect, authority=AUTHORITY, patience=PATIENCE)
    assert report.verdict is Verdict.RIGHT, report


@pytest.mark.parametrize("case", [case for case in CASES if not case.floods], ids=str)
async def test_frames_one_by_one_are_answered_as_the_rfc_says(
    case: Case, autojump_clock: trio.testing.MockClock
) -> None:
    """The same when the server has dealt with each frame before it sees the next."""
    settle = trio.testing.wait_all_tasks_blocked
    async with in_memory() as connect:
        report = await run_case(case, connect, authority=AUTHORITY, patience=PATIENCE, settle=settle)
    assert report.verdict is Verdict.RIGHT, report


@pytest.mark.parametrize("case", OVER_SOCKETS, ids=str)
async def test_a_server_behind_a_socket_answers_as_the_rfc_says(case: Case) -> None:
    """What is right over memory streams is right over TCP: closing and resetting a connection included."""
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(partial(serve, [], host="127.0.0.1", port=0))

        async def connect() -> trio.abc.Stream:
            return await trio.open_tcp_stream(host, port)

        report = await run_case(case, connect, authority=f"{host}:{port}", patience=SOCKET_PATIENCE)
        nursery.cancel_scope.cancel()
    assert report.verdict is Verdict.RIGHT, report


def test_the_external_suite_is_covered() -> None:
    """All of its 146 cases are here, each once, and no two of our sentences are the same."""
    assert len({case.external for case in EXTERNAL}) == len(EXTERNAL) == 146
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("octets", "end", "verdict"),
    [
        (goaway(0, Code.PROTOCOL_ERROR), End.OPEN, None),
        (goaway(0, Code.PROTOCOL_ERROR), End.CLOSED, Verdict.RIGHT),
        (goaway(0, Code.PROTOCOL_ERROR), End.SILENT, Verdict.TOLERATED),
        (goaway(0, Code.FRAME_SIZE_ERROR), End.CLOSED, Verdict.TOLERATED),
        (goaway(0, Code.FRAME_SIZE_ERROR), End.SILENT, Verdict.WRONG),
        (rst_stream(1, Code.PROTOCOL_ERROR), End.SILENT, Verdict.WRONG),
        (b"", End.CLOSED, Verdict.TOLERATED),
        (b"", End.SILENT, Verdict.WRONG),
    ],
)
def test_a_connection_error_is_a_goaway_with_its_code_and_a_close(
    octets: bytes, end: End, verdict: Verdict | None
) -> None:
    """The letter of RFC 9113 section 5.4.1 is RIGHT; only what an external suite also takes is TOLERATED."""
    came = list(FrameReader().feed(octets))
    assert connection_error(Code.PROTOCOL_ERROR).judge(came, end) is verdict


async def test_a_server_that_says_nothing_is_right_about_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """No case passes by default: silence is wrong for every one of them."""

    async def connect() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        deaf.append(theirs)  # or the pair would be closed when it is collected
        return ours

    deaf: list[trio.abc.Stream] = []
    reports = [await run_case(case, connect, authority=AUTHORITY, patience=PATIENCE) for case in EXTERNAL]
    assert {report.verdict for report in reports} == {Verdict.WRONG}
