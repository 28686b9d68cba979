"""Names, addresses and verbs of a virtual network."""

import socket

import attrs
import pytest
import trio

from inferencegw.testing import Delay, Link, Packet, Pass, SimNetwork, Verdict, simulate
from inferencegw.testing.network import WALL_AT_ZERO

from .wire import PORT, connection, run


async def look_up(name: str, *, family: int = 0, kind: int = socket.SOCK_STREAM) -> list[str]:
    """The addresses of ``name``, in figures."""
    answers = await trio.socket.getaddrinfo(name, PORT, family=family, type=kind)
    assert all(answer[4][1] == PORT for answer in answers)
    return [str(answer[4][0]) for answer in answers]


def test_hosts_are_found_by_their_names() -> None:
    """Under every address they have; localhost is whoever asks."""

    async def body(network: SimNetwork) -> None:
        network.host("b", "10.0.0.2", "fd00::2")
        assert await look_up("b") == ["10.0.0.2", "fd00::2"]
        assert await look_up("b", family=socket.AF_INET6) == ["fd00::2"]
        assert await look_up("b", family=socket.AF_INET, kind=socket.SOCK_DGRAM) == ["10.0.0.2"]
        assert await look_up("localhost") == ["127.0.0.1", "::1"]
        assert len(await trio.socket.getaddrinfo("b", None)) == 4
        assert await trio.socket.getnameinfo(("10.0.0.2", PORT), 0) == ("b", str(PORT))
        for unknown, family in (("c", 0), ("b.example", 0)):
            with pytest.raises(socket.gaierror, match="not known"):
                await look_up(unknown, family=family)

    run(body)


def test_addresses_belong_to_one_host() -> None:
    """Those that are not given are free ones; a host cannot be another one later."""

    async def body(network: SimNetwork) -> None:
        one = network.host("one", "10.0.0.2")
        others = [network.host(f"h{number}") for number in range(300)]
        assert len({host.addresses for host in [one, *others]}) == 301
        assert network.host("one") is one
        assert network.host("one", "10.0.0.2") is one
        for name, address in (("one", "10.0.0.3"), ("two", "10.0.0.2"), ("two", "127.0.0.1")):
            with pytest.raises(ValueError, match=r"10\.0\.0\.2|taken"):
                network.host(name, address)
        with pytest.raises(ValueError, match="no host called nobody"):
            network.crash("nobody")

    run(body)


def test_the_wall_clock_shows_virtual_time() -> None:
    """Counted from an instant that is the same in every simulation."""

    async def body(network: SimNetwork) -> None:
        await trio.sleep(10)
        assert network.wall_clock() == pytest.approx(WALL_AT_ZERO + 10)

    run(body)


async def round_trip(one: trio.SocketStream, other: trio.SocketStream) -> float:
    """Seconds there and back; infinity for a minute."""
    began = trio.current_time()
    await one.send_all(b"x")
    with trio.move_on_after(60):
        await other.receive_some()
        await other.send_all(b"x")
        await one.receive_some()
        return trio.current_time() - began
    return float("inf")


def test_distance_and_slowness_are_felt() -> None:
    """Latency is by direction, slowness by host."""

    async def body(network: SimNetwork) -> None:
        async with connection(network) as ends:
            network.default_link = Link(latency=1.0, jitter=0.0)
            assert await round_trip(*ends) == pytest.approx(2)
            network.link("a", "b", Link(latency=5.0, jitter=0.0))
            assert await round_trip(*ends) == pytest.approx(6)
            network.slow("b", 3)
            assert await round_trip(*ends) == pytest.approx(18)
            network.repair()
            assert await round_trip(*ends) == pytest.approx(2)

    run(body)


def test_jitter_is_drawn_for_each_packet() -> None:
    """Within its bounds."""

    async def body(network: SimNetwork) -> set[float]:
        network.default_link = Link(latency=1.0, jitter=1.0)
        async with connection(network) as ends:
            return {await round_trip(*ends) for _ in range(50)}

    times = run(body)
    assert len(times) == 50
    assert 2 <= min(times) < 2.5
    assert 3.5 < max(times) <= 4.00001


def test_sides_of_a_partition_do_not_reach_each_other() -> None:
    """Who is on the same side does, and so does who is on none."""

    async def body(network: SimNetwork) -> dict[str, bool]:
        for name in ("a1", "a2", "b1", "c1"):
            network.host(name)
        network.partition(["a1", "a2"], ["b1"])
        pairs = ("a1 a2", "a1 b1", "b1 a2", "a1 c1", "c1 b1", "b1 home")
        return {pair: network.paths.is_open(*pair.split()) for pair in pairs}

    assert run(body) == {"a1 a2": True, "a1 b1": False, "b1 a2": False, "a1 c1": True, "c1 b1": True, "b1 home": True}


def test_a_cut_is_of_one_direction_and_can_be_mended() -> None:
    """A host can hear and not be heard."""

    async def body(network: SimNetwork) -> None:
        network.host("a")
        network.host("b")
        network.cut("a", "b")
        assert (network.paths.is_open("a", "b"), network.paths.is_open("b", "a")) == (False, True)
        network.mend("a", "b")
        assert network.paths.is_open("a", "b")

    run(body)


def test_a_host_is_never_cut_off_from_itself() -> None:
    """Loopback is inside of it."""

    async def body(network: SimNetwork) -> None:
        network.partition(["home"], ["home"])
        network.hold("home", "home")
        assert network.paths.is_open("home", "home")

    run(body)


def test_the_first_rule_with_a_verdict_decides() -> None:
    """Pass goes before cuts; Delay adds to the way; rules that say nothing are not asked to."""
    seen: list[Packet] = []

    async def body(network: SimNetwork) -> None:
        async with connection(network) as ends:
            network.default_link = Link(latency=1.0, jitter=0.0)

            def watch(packet: Packet) -> Verdict | None:
                seen.append(packet)
                return None

            network.rules[:] = [watch, lambda packet: Delay(2.0), lambda packet: Delay(9.0)]
            assert await round_trip(*ends) == pytest.approx(6)
            network.rules[:] = [lambda packet: Pass()]
            network.partition("a", "b")
            assert await round_trip(*ends) == pytest.approx(2)

    run(body)
    assert [(packet.source.host, packet.destination.host, packet.size) for packet in seen] == [
        ("a", "b", 1),
        ("b", "a", 1),
    ]
    assert seen[1].number > seen[0].number
    assert (seen[0].destination.port, seen[0].destination.address) == (PORT, "10.0.0.1")


def test_each_verb_is_in_the_trace_and_time_can_be_set_for_it() -> None:
    """With the virtual time, without a task."""

    async def body(network: SimNetwork) -> list[str]:
        network.host("a")
        network.at(5.0, lambda: network.crash("a", silent=True))
        await trio.sleep(10)
        return [line for line in network.trace.lines if "crash" in line]

    assert run(body) == ["5.000000000 crash a silent"]


def test_a_link_has_possible_numbers_only() -> None:
    """A share of 1 would never let anything through: that is a cut."""
    for field in attrs.fields(Link):
        with pytest.raises(ValueError, match=field.name):
            Link(**{field.name: -0.1})
    for share in ("loss", "resent", "duplicate", "reorder"):
        with pytest.raises(ValueError, match=share):
            Link(**{share: 1.0})


def test_hosts_of_one_machine_are_apart_and_call_from_where_they_are() -> None:
    """Each has an address of 127.0.0.0/8 of its own, which is what others see of it; 127.0.0.1 is whoever says so."""

    async def body(network: SimNetwork) -> None:
        network.one_machine = True
        one, other = network.host("one"), network.host("other")
        heard = trio.Event()

        async def answer(stream: trio.SocketStream) -> None:
            assert stream.socket.getpeername()[0] == other.addresses[0]
            heard.set()

        async def call() -> None:
            with pytest.raises(OSError, match=r"Connection refused|all attempts to connect"):
                await trio.open_tcp_stream("127.0.0.1", 80)
            async with await trio.open_tcp_stream(one.addresses[0], 80):
                await heard.wait()

        async def serve(task_status: trio.TaskStatus[object]) -> None:
            await trio.serve_tcp(answer, 80, host=one.addresses[0], task_status=task_status)

        async def listen(*, task_status: trio.TaskStatus[object]) -> None:
            await one.run(serve, task_status)

        async with trio.open_nursery() as nursery:
            await nursery.start(listen)
            await other.run(call)
            nursery.cancel_scope.cancel()
        assert one.addresses[0] != other.addresses[0]
        assert all(address.startswith("127.") for address in (*one.addresses, *other.addresses))

    simulate(body, seed=1)
