"""Hosts and their processes: how they run, die, stop and go on."""

from functools import partial

import pytest
import trio

from inferencegw.testing import Host, SimNetwork, State, current_host

from .wire import PORT, connection, errno_of, read_all, run


async def echo(stream: trio.SocketStream) -> None:
    """Send back what comes."""
    async for data in stream:
        await stream.send_all(data)


async def serve_echo(*, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
    """A process that echoes at PORT until it is ended."""
    await trio.serve_tcp(echo, PORT, host="0.0.0.0", task_status=task_status)


async def wake(stream: trio.SocketStream) -> str:
    """How ``stream`` ends for somebody who waits in it."""
    try:
        data = await stream.receive_some()
    except trio.BrokenResourceError as error:
        return errno_of(error)
    return "EOF" if not data else "data"


def test_a_process_and_all_its_tasks_are_on_its_host() -> None:
    """Tasks inherit it; code outside has its own."""

    async def body(network: SimNetwork) -> None:
        seen: list[str] = []

        async def child() -> None:
            seen.append(current_host().name)

        async def process(word: str) -> str:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                nursery.start_soon(child)
            return word

        assert await network.host("a").run(process, "done") == "done"
        await child()
        assert seen == ["a", "a", "home"]

    run(body)


def test_outside_of_a_simulation_there_are_no_hosts() -> None:
    """RuntimeError, rather than a socket of the real system."""
    with pytest.raises(RuntimeError, match="does not run in a simulation"):
        current_host()


def test_what_a_process_raises_is_its_callers_to_handle() -> None:
    """Unless it was crashed: then its feelings are nobody's business."""

    async def body(network: SimNetwork) -> None:
        async def fail() -> None:
            raise ValueError("oops")

        async def die() -> str:
            network.crash("a")
            raise ValueError("oops")

        with pytest.raises(ValueError, match="oops"):
            await network.host("a").run(fail)
        assert await network.host("a").run(die) is None

    run(body)


def test_a_crash_ends_all_tasks_of_the_host_and_nobody_elses() -> None:
    """What they do while they end does not reach anybody."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server), trio.open_nursery() as nursery:

            async def process(task_status: trio.TaskStatus[None]) -> None:
                async with await trio.open_tcp_stream("b", PORT) as stream:
                    task_status.started()
                    try:
                        await trio.sleep_forever()
                    finally:
                        with trio.CancelScope(shield=True):
                            with pytest.raises(trio.ClosedResourceError):
                                await stream.send_all(b"goodbye")
                            with pytest.raises(OSError, match="down"):
                                await trio.open_tcp_stream("b", PORT)

            with network.host("b").entered():
                [listener] = await trio.open_tcp_listeners(PORT, host="0.0.0.0")
                await nursery.start(network.host("c").run, process)
                stream = await listener.accept()
                network.crash("c")
                assert await wake(stream) == "ECONNRESET"
                await stream.aclose()
                await listener.aclose()
            assert network.host("c").open_sockets() == []
            await client.send_all(b"x")
            assert await server.receive_some() == b"x"

    run(body)


@pytest.mark.parametrize(
    ("how", "felt"), [({}, "ECONNRESET"), ({"eof": True}, "EOF"), ({"silent": True}, "nothing")], ids=str
)
def test_peers_of_a_crashed_process_hear_of_it_as_in_life(how: dict[str, bool], felt: str) -> None:
    """A reset or an end of file from its kernel; nothing where the power was lost."""

    async def body(network: SimNetwork) -> str:
        async with connection(network) as (client, _):
            network.crash("b", **how)
            assert network.host("b").state is (State.DOWN if how == {"silent": True} else State.UP)
            with trio.move_on_after(1000):
                return await wake(client)
            return "nothing"

    assert run(body) == felt


def test_what_was_sent_before_a_crash_arrives() -> None:
    """It had left the host already."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server):
            await server.send_all(b"last words")
            network.crash("b")
            data = b""
            while len(data) < 10:
                data += await client.receive_some()
            assert data == b"last words"
            assert await wake(client) == "ECONNRESET"

    run(body)


def test_a_crashed_host_can_run_something_again() -> None:
    """At the same port; old connections are unknown there."""

    async def body(network: SimNetwork) -> None:
        host = network.host("b")
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, serve_echo)
            old = await trio.open_tcp_stream("b", PORT)
            network.crash("b", silent=True)
            await nursery.start(host.run, serve_echo)
            assert host.state is State.UP
            async with await trio.open_tcp_stream("b", PORT) as new:
                await new.send_all(b"x")
                assert await new.receive_some() == b"x"
            await old.send_all(b"do you remember me?")
            assert await wake(old) == "ECONNRESET"
            await old.aclose()
            nursery.cancel_scope.cancel()

    run(body)


def test_what_a_process_leaves_open_is_closed_and_noted() -> None:
    """A kernel does the one; who looks for leaks wants the other."""

    async def body(network: SimNetwork) -> None:
        async def forget() -> None:
            await trio.open_tcp_stream("b", PORT)

        async with trio.open_nursery() as nursery:
            await nursery.start(network.host("b").run, serve_echo)
            a = network.host("a")
            await a.run(forget)
            assert a.open_sockets() == []
            assert a.left_open == ["TCP a:32768>b:80"]
            nursery.cancel_scope.cancel()
        assert network.host("b").left_open == []

    run(body)


# -- freezing -------------------------------------------------------------------------------------------------------


async def frozen(network: SimNetwork, nursery: trio.Nursery) -> trio.SocketStream:
    """A connection to an echo on the host b, which is frozen."""
    await nursery.start(network.host("b").run, serve_echo)
    stream = await trio.open_tcp_stream("b", PORT)
    network.freeze("b")
    return stream


def test_a_frozen_process_answers_when_it_is_thawed() -> None:
    """Its kernel has taken what came meanwhile."""

    async def body(network: SimNetwork) -> None:
        async with trio.open_nursery() as nursery, await frozen(network, nursery) as stream:
            await stream.send_all(b"hello?")
            network.at(100.0, partial(network.thaw, "b"))
            data = b""
            while len(data) < 6:
                data += await stream.receive_some()
            assert data == b"hello?"
            assert trio.current_time() == pytest.approx(100, abs=0.1)
            nursery.cancel_scope.cancel()

    run(body)


def test_the_kernel_of_a_frozen_process_takes_calls() -> None:
    """They are answered when it goes on."""

    async def body(network: SimNetwork) -> None:
        async with trio.open_nursery() as nursery, await frozen(network, nursery):
            async with await trio.open_tcp_stream("b", PORT) as second:
                await second.send_all(b"x")
                with trio.move_on_after(10) as scope:
                    await second.receive_some()
                assert scope.cancelled_caught
                network.thaw("b")
                assert await second.receive_some() == b"x"
            nursery.cancel_scope.cancel()

    run(body)


def test_timeouts_of_a_frozen_process_do_not_get_it_out_of_its_sockets() -> None:
    """Not even a cancellation ends a wait; once thawed, what has arrived goes before the timeout."""

    async def body(network: SimNetwork) -> None:
        woken: list[tuple[str, float]] = []

        async def wait(name: str, stream: trio.SocketStream) -> None:
            with trio.move_on_after(5) as scope:
                await stream.receive_some()
            woken.append((f"{name} {'timeout' if scope.cancelled_caught else 'data'}", round(trio.current_time())))

        async def process(task_status: trio.TaskStatus[None]) -> None:
            async with await trio.open_tcp_stream("b", PORT) as one, await trio.open_tcp_stream("b", PORT) as two:
                task_status.started()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait, "one", one)
                    nursery.start_soon(wait, "two", two)

        with network.host("b").entered():
            [listener] = await trio.open_tcp_listeners(PORT, host="0.0.0.0")
            async with trio.open_nursery() as nursery:
                await nursery.start(network.host("a").run, process)
                servers = [await listener.accept() for _ in range(2)]
                network.freeze("a")
                await trio.sleep_until(7)
                await servers[0].send_all(b"x")
                await trio.sleep_until(50)
                assert woken == []
                network.thaw("a")
            for server in servers:
                await server.aclose()
            await listener.aclose()
        assert sorted(woken) == [("one data", 50), ("two timeout", 50)]

    run(body)


def test_what_a_frozen_process_sends_leaves_when_it_is_thawed() -> None:
    """Its timers may go off, and nobody hears of it."""

    async def body(network: SimNetwork) -> None:
        async def process() -> None:
            await trio.sleep(5)
            async with await trio.open_tcp_stream("b", PORT) as stream:
                await stream.send_all(b"x")

        async def receive(stream: trio.SocketStream) -> None:
            assert await read_all(stream) == b"x"
            assert trio.current_time() == pytest.approx(50, abs=0.1)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, receive, PORT, host="0.0.0.0")
            await nursery.start(network.host("b").run, serve)
            nursery.start_soon(network.host("a").run, process)
            network.freeze("a")
            await trio.sleep_until(50)
            network.thaw("a")

    run(body)


@pytest.mark.parametrize("how", ["crash", "cancel"])
def test_a_frozen_process_can_be_killed(how: str) -> None:
    """By a crash, or by the end of the test around it."""

    async def body(network: SimNetwork) -> str:
        async with trio.open_nursery() as nursery:
            stream = await frozen(network, nursery)
            if how == "crash":
                network.crash("b")
            else:
                nursery.cancel_scope.cancel()
        ended = await wake(stream)
        await stream.aclose()
        return ended

    assert run(body) == {"crash": "ECONNRESET", "cancel": "EOF"}[how]


def test_freezing_what_is_not_up_is_nothing() -> None:
    """Schedules that are drawn need not know."""

    async def body(network: SimNetwork) -> Host:
        host = network.host("a")
        network.thaw("a")
        network.crash("a", silent=True)
        network.freeze("a")
        return host

    assert run(body).state is State.DOWN
