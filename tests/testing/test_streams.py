"""Virtual TCP: what holds of real connections holds here, in virtual time."""

import random
from functools import partial

import pytest
import trio

from inferencegw.rpc.sockets import watch_idle
from inferencegw.testing import Drop, Kind, Link, Packet, Reset, SimNetwork, Verdict
from inferencegw.testing.rules import FIRST_RETRY
from inferencegw.testing.streams import MAX_SEGMENT, WINDOW

from .wire import connection, errno_of, read_all, run

RESEND = 15 * 60.0
"""About how long Linux sends again before it gives up."""


@pytest.mark.parametrize("seed", range(10))
def test_bytes_arrive_in_order_and_cut_anywhere(seed: int) -> None:
    """A reader gets what was written, in pieces that are not those that were written."""
    rng = random.Random(seed)
    pieces = [rng.randbytes(rng.choice([1, 50, 5_000, 200_000])) for _ in range(40)]

    async def body(network: SimNetwork) -> list[bytes]:
        read: list[bytes] = []
        async with connection(network) as (client, server), trio.open_nursery() as nursery:

            async def write() -> None:
                for piece in pieces:
                    await client.send_all(piece)
                await client.send_eof()

            nursery.start_soon(write)
            read += [bytes(data) async for data in server]
        return read

    read = run(body, seed=seed)
    assert b"".join(read) == b"".join(pieces)
    assert read != pieces
    assert max(map(len, read)) <= WINDOW


def test_small_writes_are_cut_in_two_now_and_then() -> None:
    """Code that expects a message to arrive at once is found out."""

    async def body(network: SimNetwork) -> set[bytes]:
        async with connection(network) as (client, server):
            read = set()
            for _ in range(100):
                await client.send_all(b"abc")
                read.add(await server.receive_some())
                if read & {b"a", b"ab"}:
                    await server.receive_some()
                    read -= {b"a", b"ab"}
                    read.add(b"cut")
            return read

    assert run(body) == {b"abc", b"cut"}


def test_a_writer_waits_for_a_reader_that_does_not_read() -> None:
    """Exactly one window is taken, and more as soon as some of it is read."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server):
            taken = 0
            with trio.move_on_after(1000):
                while True:
                    taken += await client.socket.send(bytes(10_000))
            assert taken == WINDOW
            await server.receive_some(1)
            assert await client.socket.send(bytes(10_000)) == 1

    run(body)


def test_one_direction_can_end_and_the_other_go_on() -> None:
    """A request that is complete can be answered."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server):
            await client.send_all(b"question")
            await client.send_eof()
            assert await read_all(server) == b"question"
            await server.send_all(b"answer")
            await server.aclose()
            assert await read_all(client) == b"answer"
            with pytest.raises(trio.ClosedResourceError):
                await client.send_all(b"more")

    run(body)


def test_what_was_written_before_closing_arrives() -> None:
    """Closing is not cancelling."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server):
            await client.send_all(bytes(50_000))
            await client.aclose()
            assert len(await read_all(server)) == 50_000

    run(body)


def test_closing_with_unread_input_resets_the_connection() -> None:
    """As RFC 2525 section 2.17 asks, and Linux does."""

    async def body(network: SimNetwork) -> str:
        async with connection(network) as (client, server):
            await client.send_all(b"unread")
            await trio.sleep(1)
            await server.aclose()
            with pytest.raises(trio.BrokenResourceError) as caught:
                await client.receive_some()
            return errno_of(caught.value)

    assert run(body) == "ECONNRESET"


def test_writing_to_a_peer_that_has_closed_is_reset() -> None:
    """The first write is taken, as nobody can know; what comes of it ends the connection."""

    async def body(network: SimNetwork) -> str:
        async with connection(network) as (client, server):
            await server.aclose()
            await client.send_all(b"into the void")
            await trio.sleep(1)
            with pytest.raises(trio.BrokenResourceError) as caught:
                await client.send_all(b"again")
            return errno_of(caught.value)

    assert run(body) == "EPIPE"


def test_closing_a_socket_that_is_being_read_tells_the_reader() -> None:
    """As in trio: ClosedResourceError, not a hang."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, _), trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.receive_some()

            nursery.start_soon(read)
            await trio.sleep(1)
            await client.aclose()

    run(body)


def test_a_read_that_is_cancelled_loses_nothing() -> None:
    """What comes later is for the next one."""

    async def body(network: SimNetwork) -> bytes:
        async with connection(network) as (client, server):
            with trio.move_on_after(1) as scope:
                await server.receive_some()
            assert scope.cancelled_caught
            await client.send_all(b"x")
            return bytes(await server.receive_some())

    assert run(body) == b"x"


# -- faults on the way --------------------------------------------------------------------------------------------


def test_a_lost_segment_is_sent_again_and_nothing_overtakes_it() -> None:
    """The network may lose packets; the stream is whole, and late."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server):
            doomed = iter([Drop()])

            def rule(packet: Packet) -> Verdict | None:
                return next(doomed, None) if packet.kind is Kind.DATA else None

            network.rules.append(rule)
            began = trio.current_time()
            await client.send_all(b"first ")
            await client.send_all(b"second")
            data = await server.receive_some()
            assert trio.current_time() - began == pytest.approx(FIRST_RETRY, abs=0.01)
            while len(data) < 12:
                data += await server.receive_some()
            assert data == b"first second"

    run(body)


@pytest.mark.parametrize("cut", [("a", "b"), ("b", "a")])
def test_a_stream_goes_on_after_a_partition(cut: tuple[str, str]) -> None:
    """Whichever direction was cut: what was written meanwhile arrives, in order."""
    content = random.Random(1).randbytes(300_000)

    async def body(network: SimNetwork) -> bytes:
        async with connection(network) as (client, server), trio.open_nursery() as nursery:

            async def write() -> None:
                await client.send_all(content)
                await client.send_eof()

            network.cut(*cut)
            network.at(30.0, network.repair)
            nursery.start_soon(write)
            read = await read_all(server)
            assert 30 < trio.current_time() < 100
        return read

    assert run(body) == content


def test_a_cut_that_is_made_while_packets_are_under_way_loses_them_too() -> None:
    """They are sent again, in order with those that were written later."""
    content = random.Random(1).randbytes(60_000)

    async def body(network: SimNetwork) -> bytes:
        network.default_link = Link(latency=1.0, jitter=0.5)
        async with connection(network) as (client, server):
            for start in range(0, len(content), 1000):
                await client.send_all(content[start : start + 1000])
            now = trio.current_time()
            network.at(now + 0.5, partial(network.cut, "a", "b"))
            network.at(now + 1.1, network.repair)
            await client.send_eof()
            return await read_all(server)

    assert run(body) == content


def test_a_writer_gives_a_lasting_partition_up() -> None:
    """After about a quarter of an hour, as Linux does; a reader that waits is told as well."""

    async def body(network: SimNetwork) -> float:
        async with connection(network) as (client, _):
            network.partition("a", "b")
            await client.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError) as caught:
                await client.receive_some()
            assert errno_of(caught.value) == "ETIMEDOUT"
            return trio.current_time()

    assert run(body) == pytest.approx(RESEND, rel=0.1)


def test_keepalive_finds_a_peer_without_power() -> None:
    """Where nothing is written the kernel asks: 60 seconds of silence, then 6 questions 10 seconds apart."""

    async def body(network: SimNetwork) -> float:
        async with connection(network) as (client, _):
            watch_idle(client)
            network.crash("b", silent=True)
            with pytest.raises(trio.BrokenResourceError) as caught:
                await client.receive_some()
            assert errno_of(caught.value) == "ETIMEDOUT"
            return trio.current_time()

    assert run(body) == pytest.approx(120, abs=0.1)


def test_keepalive_lets_an_idle_connection_live() -> None:
    """A peer that answers is asked again and again."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server):
            watch_idle(client)
            await trio.sleep(10_000)
            await server.send_all(b"still here")
            assert await client.receive_some()

    run(body)


def test_keepalive_finds_a_host_that_has_restarted() -> None:
    """Its kernel knows the connection no more, and says so."""

    async def body(network: SimNetwork) -> float:
        async with connection(network) as (client, _):
            watch_idle(client)
            network.crash("b", silent=True)
            await network.host("b").run(trio.sleep, 1)
            with pytest.raises(trio.BrokenResourceError) as caught:
                await client.receive_some()
            assert errno_of(caught.value) == "ECONNRESET"
            return trio.current_time()

    assert run(body) == pytest.approx(60, abs=0.1)


def test_a_rule_can_reset_a_connection_at_both_ends() -> None:
    """As a firewall does that has lost its tables."""

    async def body(network: SimNetwork) -> list[str]:
        async with connection(network) as (client, server):
            network.rules.append(lambda packet: Reset() if packet.kind is Kind.DATA else None)
            await client.send_all(b"x")
            found = []
            for stream in (client, server):
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await stream.receive_some()
                found.append(errno_of(caught.value))
            return found

    assert run(body) == ["ECONNRESET", "ECONNRESET"]


def test_held_segments_wait_and_then_arrive_in_order() -> None:
    """A dead link: no reset, no loss; the window bounds what waits."""
    content = random.Random(1).randbytes(WINDOW)

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server):
            network.hold("a", "b")
            await client.send_all(content)
            with trio.move_on_after(50) as scope:
                await client.send_all(b"no room")
            assert scope.cancelled_caught
            assert not server.socket.is_readable()
            assert len(network.under_way()) >= WINDOW // MAX_SEGMENT
            network.release("a", "b")
            read = b""
            while len(read) < WINDOW:
                read += await server.receive_some()
            assert read == content

    run(body)


def test_a_share_of_lost_packets_is_a_share_of_late_ones() -> None:
    """TCP sends again; programs see a delay."""

    async def body(network: SimNetwork) -> int:
        async with connection(network) as (client, server):
            network.link("a", "b", Link(resent=0.3))
            late = 0
            for _ in range(200):
                began = trio.current_time()
                await client.send_all(b"x")
                await server.receive_some()
                late += trio.current_time() - began >= FIRST_RETRY
            return late

    assert 40 < run(body) < 80
