"""Virtual UDP: datagrams that may be lost, doubled, overtaken, and are never half there."""

import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from inferencegw.testing import Drop, Link, SimNetwork
from inferencegw.testing.datagrams import OVERHEAD_BYTES

from .wire import run

COUNT = 700
"""As many as fit a socket's buffer."""


@asynccontextmanager
async def two_sockets(network: SimNetwork) -> AsyncIterator[tuple[trio.socket.SocketType, trio.socket.SocketType]]:
    """One on host a, one on host b, where it is bound to every address at port 9."""
    with network.host("b", "10.0.0.2").entered():
        there = trio.socket.socket(type=socket.SOCK_DGRAM)
        await there.bind(("0.0.0.0", 9))
        with network.host("a", "10.0.0.1").entered():
            here = trio.socket.socket(type=socket.SOCK_DGRAM)
            await here.bind(("10.0.0.1", 0))
            with here, there:
                yield here, there


async def receive_all(sock: trio.socket.SocketType) -> list[int]:
    """The numbers in the datagrams that come before a second of silence."""
    found = []
    while True:
        with trio.move_on_after(1) as scope:
            found.append(int((await sock.recvfrom(100))[0]))
        if scope.cancelled_caught:
            return found


def received(link: Link, loss: float = 0.0) -> list[int]:
    """What arrives of the numbers below COUNT over such a link."""

    async def body(network: SimNetwork) -> list[int]:
        async with two_sockets(network) as (here, there):
            network.link("a", "b", link)
            network.set_loss(loss)
            for number in range(COUNT):
                await here.sendto(str(number).encode(), ("10.0.0.2", 9))
                await trio.sleep(0.001)
            return await receive_all(there)

    return run(body)


def test_a_datagram_arrives_whole_with_its_senders_address() -> None:
    """And can be answered."""

    async def body(network: SimNetwork) -> None:
        async with two_sockets(network) as (here, there):
            await here.sendto(b"x" * 1400, ("10.0.0.2", 9))
            data, sender = await there.recvfrom(2000)
            assert (data, sender) == (b"x" * 1400, here.getsockname())
            await there.sendto(b"answer", sender)
            assert await here.recvfrom(1) == (b"a", ("10.0.0.2", 9))

    run(body)


def test_a_good_link_loses_nothing() -> None:
    """And keeps the order where datagrams are not sent together."""
    assert received(Link()) == list(range(COUNT))


@pytest.mark.parametrize(("link", "loss"), [(Link(loss=0.3), 0.0), (Link(), 0.3)], ids=["link", "everywhere"])
def test_a_share_is_lost(link: Link, loss: float) -> None:
    """Whether one link or all of them lose it."""
    found = received(link, loss)
    assert found == sorted(set(found))
    assert 0.65 * COUNT < len(found) < 0.75 * COUNT


def test_a_share_arrives_twice() -> None:
    """And none three times."""
    counts = Counter(received(Link(duplicate=0.3)))
    assert set(counts.values()) == {1, 2}
    assert 0.25 * COUNT < sum(count == 2 for count in counts.values()) < 0.35 * COUNT


def test_a_share_is_overtaken() -> None:
    """All arrive, not in their order."""
    found = received(Link(reorder=0.3))
    assert found != sorted(found)
    assert sorted(found) == list(range(COUNT))


def test_what_waits_is_bounded() -> None:
    """A process that does not read loses what exceeds its buffer, empty datagrams included."""

    async def body(network: SimNetwork) -> int:
        async with two_sockets(network) as (here, there):
            there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10 * (OVERHEAD_BYTES + 3))
            for _ in range(100):
                await here.sendto(b"123", ("10.0.0.2", 9))
            await trio.sleep(1)
            return len(await receive_all(there))

    assert run(body) == 10


def test_nobody_is_told_what_became_of_a_datagram() -> None:
    """No such host, nobody who listens, a cut, a rule: it is gone."""

    async def body(network: SimNetwork) -> None:
        async with two_sockets(network) as (here, there):
            for to in (("10.0.0.2", 10), ("10.9.9.9", 9)):
                await here.sendto(b"0", to)
            network.cut("a", "b")
            await here.sendto(b"1", ("10.0.0.2", 9))
            network.mend("a", "b")
            network.rules.append(lambda packet: Drop() if packet.number % 2 else None)
            for number in range(2, 6):
                await here.sendto(str(number).encode(), ("10.0.0.2", 9))
            assert len(await receive_all(there)) == 2

    run(body)


def test_held_datagrams_arrive_when_they_are_released() -> None:
    """Until then they are under way."""

    async def body(network: SimNetwork) -> list[int]:
        async with two_sockets(network) as (here, there):
            network.hold("b", "a")
            await here.sendto(b"1", ("10.0.0.2", 9))
            assert await receive_all(there) == []
            assert len(network.under_way()) == 1
            network.release("a", "b")
            return await receive_all(there)

    assert run(body) == [1]


def test_connecting_tells_the_address_that_faces_a_stranger() -> None:
    """Without sending anything; ENETUNREACH in a family that the host has not."""

    async def body(network: SimNetwork) -> None:
        with network.host("a", "10.0.0.1").entered():
            for stranger, ours in (("192.0.2.1", "10.0.0.1"), ("127.0.0.1", "127.0.0.1")):
                with trio.socket.socket(type=socket.SOCK_DGRAM) as probe:
                    await probe.connect((stranger, 9))
                    assert probe.getsockname()[0] == ours
                    assert probe.getpeername() == (stranger, 9)
            with trio.socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                with pytest.raises(OSError, match=str(errno.ENETUNREACH)):
                    await probe.connect(("2001:db8::1", 9))
                with pytest.raises(OSError, match=str(errno.ENOTCONN)):
                    probe.getpeername()
        assert network.under_way() == []

    run(body)


def test_a_connected_socket_hears_its_peer_only() -> None:
    """As the system's do."""

    async def body(network: SimNetwork) -> None:
        async with two_sockets(network) as (here, there):
            await here.connect(("10.0.0.2", 9))
            with trio.socket.socket(type=socket.SOCK_DGRAM) as other:
                await other.sendto(b"1", here.getsockname())
            await here.send(b"2")
            assert await receive_all(there) == [2]
            await there.sendto(b"3", here.getsockname())
            assert await receive_all(here) == [3]

    run(body)


def test_what_is_too_long_is_refused() -> None:
    """EMSGSIZE, as on any network."""

    async def body(network: SimNetwork) -> None:
        async with two_sockets(network) as (here, _):
            with pytest.raises(OSError, match=str(errno.EMSGSIZE)):
                await here.sendto(bytes(65_508), ("10.0.0.2", 9))

    run(body)


def test_whether_one_waits_can_be_asked() -> None:
    """What gossip does after each datagram."""

    async def body(network: SimNetwork) -> None:
        async with two_sockets(network) as (here, there):
            assert not there.is_readable()
            await here.sendto(b"1", ("10.0.0.2", 9))
            await trio.sleep(1)
            assert there.is_readable()
            assert await there.recv(10) == b"1"
            assert not there.is_readable()

    run(body)
