"""membership/datagrams.py: the parts around one datagram that the service's tests do not reach."""

import socket

import trio
from trio.testing import MockClock

from inferencegw.membership.advertise import Place
from inferencegw.membership.datagrams import open_socket, try_send


async def test_a_socket_of_ipv6_leaves_ipv4_to_others(autojump_clock: MockClock) -> None:
    """As the gRPC listeners do, so that both families can share a port number."""
    four = await open_socket(Place(socket.AF_INET, ("0.0.0.0", 0), "127.0.0.1", "127.0.0.1"))
    port = four.getsockname()[1]
    six = await open_socket(Place(socket.AF_INET6, ("::", port), "::1", "::1"))
    four.close()
    six.close()
    await trio.lowlevel.checkpoint()


async def test_names_that_members_make_up_are_one_kind_of_trouble(autojump_clock: MockClock) -> None:
    """Each kind is remembered, and told: others must not be able to make up kinds."""
    sock = await open_socket(Place(socket.AF_INET, ("127.0.0.1", 0), "127.0.0.1", "127.0.0.1"))
    errors = [await try_send(sock, b"hello", (f"made-up-{number}", 1)) for number in range(3)]
    assert len({error.strerror for error in errors if error is not None}) == 1
    sock.close()
