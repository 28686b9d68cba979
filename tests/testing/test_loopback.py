"""Loopback: the verbs mean on real sockets what they mean on virtual ones."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from inferencegw.testing import Loopback, on_loopback

MOMENT = 0.05
"""Seconds in which what may happen does."""


@pytest.fixture
async def network() -> AsyncIterator[Loopback]:
    """Hosts on loopback."""
    with Loopback(seed=1) as network:
        yield network


@asynccontextmanager
async def connected(network: Loopback) -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """A connection from host a to host b: a's end, and b's."""
    async with trio.open_nursery() as nursery:
        listener = await opened(nursery, network, "b", partial(trio.open_tcp_listeners, 0, host="127.0.0.1"))
        port = listener[0].socket.getsockname()[1]
        ours = await opened(nursery, network, "a", trio.open_tcp_stream, "127.0.0.1", port)
        theirs = await listener[0].accept()
        await listener[0].aclose()
        yield ours, theirs
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


async def opened(nursery: trio.Nursery, network: Loopback, host: str, opener: Any, *args: Any) -> Any:
    """What ``opener`` opens, by a process of ``host`` that goes on."""

    async def process(*, task_status: trio.TaskStatus[Any]) -> None:
        task_status.started(await opener(*args))
        await trio.sleep_forever()

    return await nursery.start(lambda *, task_status: network.host(host).run(lambda: process(task_status=task_status)))


@asynccontextmanager
async def mailboxes(network: Loopback) -> AsyncIterator[tuple[Any, Any]]:
    """A UDP socket of host a, and one of host b."""

    async def bound() -> Any:
        sock = trio.socket.socket(type=socket.SOCK_DGRAM)
        await sock.bind(("127.0.0.1", 0))
        return sock

    async with trio.open_nursery() as nursery:
        ours, theirs = [await opened(nursery, network, name, bound) for name in ("a", "b")]
        yield ours, theirs
        nursery.cancel_scope.cancel()
    ours.close()
    theirs.close()


async def waits(operation: Any, *args: Any) -> bool:
    """Whether ``operation`` does not end in a moment."""
    with trio.move_on_after(MOMENT):
        await operation(*args)
        return False
    return True


async def test_a_cut_holds_up_a_stream_one_way_and_loses_nothing(network: Loopback) -> None:
    """What was to be sent waits; the other way is open; after mending it goes on."""
    async with connected(network) as (ours, theirs):
        network.cut("a", "b")
        assert await waits(ours.send_all, b"x")
        await theirs.send_all(b"back")
        assert await ours.receive_some() == b"back"
        network.mend("a", "b")
        await ours.send_all(b"forth")
        assert await theirs.receive_some() == b"forth"


async def test_the_end_of_a_connection_does_not_pass_a_cut_either(network: Loopback) -> None:
    """Who is cut off cannot know that its peer has gone."""
    async with connected(network) as (ours, theirs):
        network.partition(["a"], ["b"])
        await theirs.aclose()
        assert await waits(ours.receive_some)
        network.repair()
        assert await ours.receive_some() == b""


async def test_a_frozen_process_neither_reads_nor_notices_its_deadlines(network: Loopback) -> None:
    """The kernel takes what comes; the process has it when it is thawed, and not before."""
    async with connected(network) as (ours, theirs):
        woken = trio.Event()

        async def read() -> None:
            with trio.move_on_after(MOMENT):
                await theirs.receive_some()
            woken.set()

        network.freeze("b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await ours.send_all(b"hello")
            assert await waits(trio.sleep, 2 * MOMENT)
            assert not woken.is_set()
            network.thaw("b")
            await woken.wait()


async def test_datagrams_are_cut_lost_and_held(network: Loopback) -> None:
    """Each as it is told; those that were held come when they are released."""
    async with mailboxes(network) as (ours, theirs):
        to = theirs.getsockname()
        network.cut("a", "b")
        await ours.sendto(b"cut", to)
        network.mend("a", "b")
        network.set_loss(1.0)
        await ours.sendto(b"lost", to)
        network.set_loss(0.0)
        network.hold("a", "b")
        await ours.sendto(b"held", to)
        assert len(network.under_way()) == 1
        network.release("a", "b")
        assert (await theirs.recvfrom(10))[0] == b"held"
        assert not theirs.is_readable()
        assert not network.under_way()


async def test_a_crash_closes_what_was_open_and_ends_what_ran(network: Loopback) -> None:
    """Its peer is told by the kernel; the host can run something again."""
    async with connected(network) as (ours, theirs):
        network.crash("b")
        assert not network.host("b").open_sockets()
        assert await ours.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive_some()

        async def body() -> str:
            await trio.lowlevel.checkpoint()
            return "up again"

        assert await network.host("b").run(body) == "up again"


async def test_a_crash_ends_processes_in_the_order_of_their_start(network: Loopback) -> None:
    """Not in that of their addresses in memory: a story's seed decides as much as it can on real sockets."""
    ended: list[int] = []

    async def process(number: int) -> None:
        def end(_raise_cancel: object) -> trio.lowlevel.Abort:
            ended.append(number)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(end)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(network.host("b").run, process, number)
            await trio.testing.wait_all_tasks_blocked()
        network.crash("b")
        nursery.cancel_scope.cancel()
    assert ended == list(range(20))


async def test_nobody_is_told_of_a_power_loss_until_it_is_over(network: Loopback) -> None:
    """The kernel's word waits until the host is up."""
    async with connected(network) as (ours, _theirs):
        network.crash("b", silent=True)
        assert await waits(ours.receive_some)
        await network.host("b").run(trio.lowlevel.checkpoint)
        assert await ours.receive_some() == b""


async def test_what_a_crashed_host_still_tries_is_an_error(network: Loopback) -> None:
    """Where it is not cancelled, because it is shielded."""
    async with mailboxes(network) as (ours, theirs):
        to = theirs.getsockname()
        network.crash("a")
        with pytest.raises(OSError, match="a has crashed"):
            await ours.sendto(b"x", to)


def test_a_run_on_loopback_returns_what_its_body_does() -> None:
    """And is given up when its time is over."""

    async def hang(_network: Loopback) -> None:
        await trio.sleep_forever()

    async def body(network: Loopback) -> int:
        await trio.lowlevel.checkpoint()
        return network.rng.randrange(100)

    assert on_loopback(body, seed=7) == on_loopback(body, seed=7)
    with pytest.raises(trio.TooSlowError):
        on_loopback(hang, time_limit=MOMENT)
