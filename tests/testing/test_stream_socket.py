"""Virtual TCP sockets: how connections begin, and what programs may ask."""

import errno
import socket
from typing import Any

import anyio
import anyio.abc
import pytest
import trio

from inferencegw.testing import Drop, Kind, SimNetwork

from .wire import PORT, connection, errno_of, run


def test_nobody_listening_is_a_refusal_after_one_round_trip() -> None:
    """ECONNREFUSED, at once."""

    async def body(network: SimNetwork) -> str:
        network.host("b")
        with pytest.raises(OSError, match="all attempts") as caught:
            await trio.open_tcp_stream("b", PORT)
        assert trio.current_time() < 0.002
        return errno_of(caught.value)

    assert run(body) == "ECONNREFUSED"


@pytest.mark.parametrize("case", ["no such host", "no power", "partition", "held"])
def test_silence_is_a_timeout_after_about_two_minutes(case: str) -> None:
    """The SYN is sent seven times, as on Linux."""

    async def body(network: SimNetwork) -> str:
        network.host("b", "10.1.1.1")
        if case == "no power":
            network.crash("b", silent=True)
        elif case == "partition":
            network.partition(["home"], ["b"])
        elif case == "held":
            network.hold("home", "b")
        sock = trio.socket.socket()
        with pytest.raises(OSError, match="timed out") as caught:
            await sock.connect(("10.9.9.9" if case == "no such host" else "10.1.1.1", PORT))
        sock.close()
        assert trio.current_time() == pytest.approx(127, abs=0.1)
        return errno_of(caught.value)

    assert run(body) == "ETIMEDOUT"


@pytest.mark.parametrize("kind", [Kind.SYN, Kind.SYN_ACK])
def test_a_handshake_survives_a_lost_packet(kind: Kind) -> None:
    """It takes a second longer, and there is one connection and not two."""

    async def body(network: SimNetwork) -> None:
        doomed = iter([Drop()])
        network.rules.append(lambda packet: next(doomed, None) if packet.kind is kind else None)
        async with connection(network) as (client, server):
            assert trio.current_time() == pytest.approx(1, abs=0.01)
            await client.send_all(b"x")
            assert await server.receive_some() == b"x"

    run(body)


def test_a_caller_who_gives_up_leaves_no_connection() -> None:
    """Whoever accepts it afterwards finds it reset."""

    async def body(network: SimNetwork) -> None:
        with network.host("b").entered():
            [listener] = await trio.open_tcp_listeners(PORT, host="0.0.0.0")
            network.rules.append(lambda packet: Drop() if packet.kind is Kind.SYN_ACK else None)
            with network.host("a").entered(), trio.move_on_after(0.5) as scope:
                await trio.open_tcp_stream("b", PORT)
            assert scope.cancelled_caught
            assert network.host("a").left_open == []
            server = await listener.accept()
            network.rules.clear()
            await server.send_all(b"hello?")
            with pytest.raises(trio.BrokenResourceError):
                await server.receive_some()
            await server.aclose()
            await listener.aclose()

    run(body)


def test_a_full_backlog_makes_callers_wait() -> None:
    """The kernel drops what does not fit, and the caller tries again."""

    async def body(network: SimNetwork) -> None:
        with network.host("b").entered():
            [listener] = await trio.open_tcp_listeners(PORT, host="0.0.0.0", backlog=1)
            first = [await trio.open_tcp_stream("b", PORT) for _ in range(2)]
            with trio.move_on_after(0.9) as scope:
                await trio.open_tcp_stream("b", PORT)
            assert scope.cancelled_caught
            async with trio.open_nursery() as nursery:

                async def call() -> None:
                    async with await trio.open_tcp_stream("b", PORT):
                        pass

                nursery.start_soon(call)
                await trio.sleep(0.5)
                accepted = [await listener.accept() for _ in range(3)]
            for stream in [*first, *accepted]:
                await stream.aclose()
            await listener.aclose()

    run(body)


def test_callers_that_nobody_has_fetched_are_reset_when_the_listener_closes() -> None:
    """They do not wait for somebody who has left."""

    async def body(network: SimNetwork) -> str:
        with network.host("b").entered():
            [listener] = await trio.open_tcp_listeners(PORT, host="0.0.0.0")
            async with await trio.open_tcp_stream("b", PORT) as client:
                await listener.aclose()
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await client.receive_some()
                return errno_of(caught.value)

    assert run(body) == "ECONNRESET"


def test_addresses_are_those_of_both_hosts() -> None:
    """Each end knows itself and the other one."""

    async def body(network: SimNetwork) -> None:
        network.host("a", "10.0.0.1")
        network.host("b", "10.0.0.2", "fd00::2")
        async with connection(network) as (client, server):
            here = client.socket.getsockname()
            assert here[0] == "10.0.0.1"
            assert client.socket.getpeername() == server.socket.getsockname() == ("10.0.0.2", PORT)
            assert server.socket.getpeername() == here

    run(body)


def test_ports_are_taken_once_and_only_at_addresses_that_are_there() -> None:
    """EADDRINUSE and EADDRNOTAVAIL, wildcards included; 0 takes a free one."""

    async def body(network: SimNetwork) -> None:
        with network.host("b", "10.0.0.2").entered():
            [one] = await trio.open_tcp_listeners(PORT, host="10.0.0.2")
            for host, number in (
                ("10.0.0.2", errno.EADDRINUSE),
                ("0.0.0.0", errno.EADDRINUSE),
                ("10.0.0.3", errno.EADDRNOTAVAIL),
            ):
                with pytest.raises(OSError, match=str(number)):
                    await trio.open_tcp_listeners(PORT, host=host)
            free = [(await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] for _ in range(2)]
            assert len({listener.socket.getsockname()[1] for listener in free}) == 2
            await one.aclose()
            [again] = await trio.open_tcp_listeners(PORT, host="0.0.0.0")
            for listener in [again, *free]:
                await listener.aclose()
            assert network.host("b").open_sockets() == []

    run(body)


def test_loopback_is_within_one_host() -> None:
    """Two hosts may have the same port there, and neither reaches the other's."""

    async def body(network: SimNetwork) -> None:
        with network.host("a").entered():
            [listener] = await trio.open_tcp_listeners(PORT, host="127.0.0.1")
            async with await trio.open_tcp_stream("localhost", PORT) as client, await listener.accept() as server:
                assert client.socket.getsockname()[0] == server.socket.getpeername()[0] == "127.0.0.1"
                with network.host("b").entered(), pytest.raises(OSError, match="all attempts"):
                    await trio.open_tcp_stream("127.0.0.1", PORT)
            await listener.aclose()

    run(body)


def test_anyio_finds_its_way() -> None:
    """The client library's sockets are trio's under anyio, its happy eyeballs and its attributes included."""

    async def body(network: SimNetwork) -> None:
        with network.host("b", "10.0.0.2", "fd00::2").entered():
            [listener] = await trio.open_tcp_listeners(PORT, host="0.0.0.0")
            with network.host("a", "10.0.0.1", "fd00::1").entered():
                stream = await anyio.connect_tcp("b", PORT)
                server = await listener.accept()
                assert stream.extra(anyio.abc.SocketAttribute.remote_address) == ("10.0.0.2", PORT)
                assert stream.extra(anyio.abc.SocketAttribute.family) is socket.AF_INET
                await stream.send(b"hello")
                assert await server.receive_some() == b"hello"
                await server.aclose()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
                await stream.aclose()
            await listener.aclose()

    run(body)


def test_options_are_remembered() -> None:
    """What was set can be read; whether it listens is known."""

    async def body(network: SimNetwork) -> None:
        with trio.socket.socket() as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            await sock.bind(("127.0.0.1", 0))
            sock.listen()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            assert sock.fileno() > 0
        assert sock.fileno() == -1
        with pytest.raises(OSError, match=str(errno.EBADF)):
            sock.listen()

    run(body)


@pytest.mark.parametrize("name", ["dup", "detach", "recvmsg", "sendmsg", "recvfrom", "sendto", "set_inheritable"])
def test_what_is_not_simulated_says_so(name: str) -> None:
    """NotImplementedError with the name: nothing is pretended."""

    async def body(network: SimNetwork) -> None:
        with trio.socket.socket() as sock:
            operation: Any = getattr(sock, name)
            with pytest.raises(NotImplementedError, match=f"StreamSocket.{name} "):
                operation()

    run(body)


@pytest.mark.parametrize(
    ("family", "kind"), [(socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_RAW)], ids=["unix", "raw"]
)
def test_sockets_of_other_kinds_are_not_simulated(family: int, kind: int) -> None:
    """Nor does such a one come from the real system by accident."""

    async def body(network: SimNetwork) -> None:
        with pytest.raises(NotImplementedError, match="not simulated"):
            trio.socket.socket(family, kind)

    run(body)


def test_reading_into_a_buffer_and_waiting_for_room() -> None:
    """The other two ways of using a stream's socket."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as (client, server):
            await client.send_all(b"hello")
            buffer = bytearray(10)
            count = 0
            while count < 5:
                count += await server.socket.recv_into(memoryview(buffer)[count:])
            assert buffer[:count] == b"hello"
            await client.wait_send_all_might_not_block()
            while True:
                with trio.move_on_after(1) as scope:
                    await client.socket.send(bytes(100_000))
                if scope.cancelled_caught:
                    break
            with trio.move_on_after(1) as scope:
                await client.wait_send_all_might_not_block()
            assert scope.cancelled_caught

    run(body)


def test_misuse_is_an_error_as_in_life() -> None:
    """With the number that Linux gives it."""

    async def body(network: SimNetwork) -> list[str]:
        found = []

        async def expect(operation: Any) -> None:
            with pytest.raises(OSError, match="Errno") as caught:
                await operation
            found.append(errno_of(caught.value))

        async with connection(network) as (client, _):
            sock = client.socket
            await expect(sock.connect(("10.0.0.1", PORT)))
            await expect(sock.bind(("0.0.0.0", 0)))
            await expect(sock.accept())
            with trio.socket.socket() as fresh:
                await expect(fresh.recv(1))
                await expect(fresh.send(b"x"))
                with pytest.raises(OSError, match=str(errno.EINVAL)):
                    fresh.listen()
            for operation in (sock.recv(1, socket.MSG_PEEK), sock.send(b"x", socket.MSG_OOB)):
                with pytest.raises(NotImplementedError, match="flags"):
                    await operation
            with pytest.raises(NotImplementedError, match="SHUT_RD"):
                sock.shutdown(socket.SHUT_RD)
            with pytest.raises(NotImplementedError, match="REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.shutdown(socket.SHUT_RDWR)
            assert await sock.recv(1) == b""
            await expect(sock.send(b"x"))
        return found

    assert run(body) == ["EISCONN", "EINVAL", "EINVAL", "ENOTCONN", "ENOTCONN", "EPIPE"]


def test_names_and_wildcards_are_addresses_too() -> None:
    """One may bind to a name, and call the wildcard, which is the host itself."""

    async def body(network: SimNetwork) -> None:
        with network.host("b", "10.0.0.2", "fd00::2").entered(), trio.socket.socket(socket.AF_INET6) as sock:
            assert sock.getsockname() == ("::", 0, 0, 0)
            await sock.bind(("b", PORT))
            assert sock.getsockname() == ("fd00::2", PORT, 0, 0)
            [listener] = await trio.open_tcp_listeners(0, host="0.0.0.0")
            with trio.socket.socket() as caller:
                await caller.connect(("0.0.0.0", listener.socket.getsockname()[1]))
                assert caller.getpeername()[0] == "127.0.0.1"
                (await listener.accept()).socket.close()
            await listener.aclose()

    run(body)
