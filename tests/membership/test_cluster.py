"""Members on real loopback sockets: they come and go, have names, and are not disturbed by anybody.

That they find each other, notice crashes and come back is told with whole processes, in :mod:`tests.stories`.
"""

import base64
import os
import random
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from inferencegw.errors import MemberConflict
from inferencegw.membership import ClusterView
from inferencegw.membership.advertise import Place
from inferencegw.membership.datagrams import DatagramSocket, open_socket
from inferencegw.membership.keys import RECHECK
from inferencegw.swim.config import FAST
from inferencegw.swim.member import Address
from inferencegw.swim.meta import address_text, parse_address
from tests.membership.support import ALIVE, DEAD, LEFT, WALL, all_see, crowd, peer

SLOWEST_DETECTION = 3.0
"""Seconds from a crash to DEAD among a few with the fast profile, if there is nobody to confirm a suspicion: a round of
probes, the longest suspicion and the last gasp."""


def everybody_heard(count: int) -> Any:
    """Holds of a view with ``count`` live members who have all spoken to the one that looks."""

    def predicate(view: ClusterView) -> bool:
        return len(view.members) == count and all(one.is_live and one.heard_from for one in view.members.values())

    return predicate


# Leaving, and names.


async def test_a_leave_is_a_leave_and_never_a_suspicion(autojump_clock: MockClock) -> None:
    """All see LEFT while the leaver still lingers; its process ends by itself, and its tombstone is forgotten later."""
    async with crowd() as nodes:
        one = await nodes.start("n1")
        others = [await nodes.start(f"n{number}", one) for number in range(2, 6)]
        await all_see([one, *others], everybody_heard(5))
        started = trio.current_time()
        async with trio.open_nursery() as leaving:
            leaving.start_soon(others[0].service.leave)
            await all_see([one, *others[1:]], lambda view: view.state_of("n2") is LEFT)
            assert trio.current_time() - started < FAST.leave_linger
        assert trio.current_time() - started == pytest.approx(FAST.leave_linger)
        assert others[0].ended.is_set()
        statistics = [node.service.statistics().get("suspicions", 0) for node in (one, *others)]
        assert statistics == [0] * 5
        await one.service.cluster.wait_until(lambda view: "n2" not in view.members)
        assert trio.current_time() - started == pytest.approx(FAST.tombstone_time)


async def test_a_goodbye_is_not_cut_short_by_its_callers_cancellation(autojump_clock: MockClock) -> None:
    """A process that is told to stop still says that it goes."""
    async with crowd() as nodes:
        one, two = (first := await nodes.start("n1")), await nodes.start("n2", first)
        await all_see([one, two], everybody_heard(2))
        with trio.CancelScope() as impatient:
            impatient.cancel()
            await two.service.leave()
        await one.sees(n1=ALIVE, n2=LEFT)


async def test_a_second_signal_does_not_wait_for_the_goodbye(autojump_clock: MockClock) -> None:
    """Cancelling the task itself ends the lingering at once."""
    async with crowd() as nodes, trio.open_nursery() as leaving:
        one, two = (first := await nodes.start("n1")), await nodes.start("n2", first)
        await all_see([one, two], everybody_heard(2))
        started = trio.current_time()
        leaving.start_soon(two.service.leave)
        await one.sees(n1=ALIVE, n2=LEFT)
        await two.crash()
        assert trio.current_time() - started < FAST.leave_linger


async def test_two_processes_under_one_name_become_one_and_the_other_says_why(autojump_clock: MockClock) -> None:
    """The one that is older stops, with one error; the later one goes on, and is the one that everybody knows."""
    with pytest.RaisesGroup(
        pytest.RaisesExc(MemberConflict, match="another n2 runs at .*: give one a new id"), flatten_subgroups=True
    ):
        async with crowd() as nodes:
            one = await nodes.start("n1")
            elder = await nodes.start("n2", one)
            await all_see([one, elder], everybody_heard(2))
            await trio.sleep(1)  # virtual: an epoch is a time
            later = await nodes.start("n2", one)
            await elder.ended.wait()
            await one.service.cluster.wait_until(lambda view: view.members["n2"].epoch == later.service.epoch)
            assert not later.ended.is_set()


async def test_a_member_without_a_name_is_called_after_where_it_serves(autojump_clock: MockClock) -> None:
    """Unless its port is a chance one: then its name is one too."""
    async with crowd() as nodes:
        named = await nodes.start("", port=50_051)
        nameless = [await nodes.start("", port=0) for _ in range(2)]
        assert named.service.member_id == "127.0.0.1:50051"
        assert len({node.service.member_id for node in nameless}) == 2
        assert all(node.service.member_id.startswith("replica-") for node in nameless)


# The ancestor's UDP tests.


async def test_what_is_sent_is_received_with_its_source(autojump_clock: MockClock) -> None:
    """The socket that members use: data and address arrive as they were sent."""
    place = Place(socket.AF_INET, ("127.0.0.1", 0), "127.0.0.1", "127.0.0.1")
    one, two = await open_socket(place), await open_socket(place)
    assert not two.is_readable()
    assert await one.sendto(b"hello", two.getsockname()) == 5
    assert two.is_readable()
    assert await two.recvfrom(100) == (b"hello", one.getsockname())
    one.close()
    two.close()


async def test_a_receive_that_brings_nothing_ends_with_its_deadline(autojump_clock: MockClock) -> None:
    """It can be given up at any time, and nothing is lost by that."""
    async with peer() as one, peer() as two:
        with trio.move_on_after(5) as patience:
            await two.recvfrom(100)
        assert patience.cancelled_caught
        await one.sendto(b"late", two.getsockname())
        assert (await two.recvfrom(100))[0] == b"late"


@pytest.mark.parametrize("address", [("127.0.0.1", 7946), ("::1", 65_535), ("10.0.0.1", 1)])
def test_an_address_is_parsed_as_it_is_written(address: Address) -> None:
    """Both families; IPv6 in brackets."""
    assert parse_address(address_text(address)) == address


@pytest.mark.parametrize("text", ["", "host", "10.0.0.1:", ":1", "10.0.0.1:0", "10.0.0.1:65536", "::1:80", "a b:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Addresses come from the network."""
    with pytest.raises(ValueError, match="of an address is not one"):
        parse_address(text)


async def test_members_on_ipv6_find_each_other(autojump_clock: MockClock) -> None:
    """Everything above holds for both families."""
    async with crowd(host="::1") as nodes:
        one, two = (first := await nodes.start("n1")), await nodes.start("n2", first)
        await all_see([one, two], everybody_heard(2))
        assert two.view.members["n1"].grpc_address == "[::1]:50051"


# What others send.


class Recording:
    """A socket that keeps a copy of what it sends."""

    def __init__(self, sock: DatagramSocket, recorded: list[bytes]) -> None:
        self._sock = sock
        self._recorded = recorded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    async def sendto(self, data: bytes, to: Address) -> int:
        self._recorded.append(data)
        return await self._sock.sendto(data, to)


async def test_garbage_is_dropped_counted_by_kind_and_delays_nothing(autojump_clock: MockClock) -> None:
    """Random bytes, truncated, damaged, foreign and replayed datagrams between all the others: detection is as ever."""
    rng = random.Random(0)
    recorded: list[bytes] = []

    async def open_recording(place: Place) -> DatagramSocket:
        return Recording(await open_socket(place), recorded)

    async with crowd(cluster="blue") as nodes, peer() as vandal, trio.open_nursery() as vandalism:
        one = await nodes.start("n1")
        two, three = [await nodes.start(name, one, open_socket=open_recording) for name in ("n2", "n3")]
        await nodes.start("n4", one, cluster="red")
        await all_see([one, two, three], everybody_heard(3))

        async def vandalise() -> None:
            while True:
                genuine = recorded[rng.randrange(len(recorded))]
                damaged = bytearray(genuine)
                damaged[-1] ^= 1
                for data in (rng.randbytes(40), b"", genuine[:7], genuine[:-1], bytes(damaged), genuine):
                    await vandal.sendto(data, one.address)
                await trio.sleep(0.005)

        vandalism.start_soon(vandalise)
        await trio.sleep(1)
        assert one.states() == {"n1": ALIVE, "n2": ALIVE, "n3": ALIVE}
        crashed = trio.current_time()
        await three.crash()
        await one.sees(n1=ALIVE, n2=ALIVE, n3=DEAD)
        assert trio.current_time() - crashed < SLOWEST_DETECTION
        counts = one.service.statistics()
        for reason in ("foreign", "truncated", "checksum", "replayed", "label"):
            assert counts[f"dropped_{reason}"] > 10, counts
        vandalism.cancel_scope.cancel()


# Keys.


def keyring_file(path: Path, *keys: bytes) -> str:
    """Write ``keys`` to ``path``, as an orchestrator would: the new file in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(f"{base64.b64encode(key).decode()}  # a key\n" for key in keys))
    fresh.rename(path)
    return str(path)


async def test_keys_rotate_while_everybody_talks(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Add, use, remove, each in every member's own file, one after the other: no packet is dropped at any step."""
    old, new = os.urandom(32), os.urandom(32)
    names = ("n1", "n2", "n3")
    files = {name: tmp_path / name for name in names}
    async with crowd() as nodes:
        one = await nodes.start("n1", keyring_file=keyring_file(files["n1"], old))
        others = [await nodes.start(name, one, keyring_file=keyring_file(files[name], old)) for name in names[1:]]
        await all_see([one, *others], everybody_heard(3))
        for ring in ((old, new), (new, old), (new,)):
            for name in names:
                keyring_file(files[name], *ring)
                await trio.sleep(2 * RECHECK)
        # Who has only the old key is nobody now.
        late = await nodes.start("n4", one, keyring_file=keyring_file(tmp_path / "n4", old))
        await trio.sleep(2)
        assert late.states() == {"n4": ALIVE}
        for node in (one, *others):
            assert node.states() == dict.fromkeys(names, ALIVE)
            counts = node.service.statistics()
            assert counts.get("suspicions", 0) == 0
            assert counts.get("dropped_key", 0) == (0 if node is not one else counts["dropped_key"])
        assert one.service.statistics()["dropped_key"] > 0


async def test_one_without_the_key_is_not_heard_and_hears_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Sealed and unsealed members do not mix, and each counts what it did not hear."""
    async with crowd() as nodes:
        sealed = await nodes.start("n1", keyring_file=keyring_file(tmp_path / "n1", os.urandom(32)))
        await nodes.start("n2", sealed)
        await trio.sleep(2)
        assert sealed.states() == {"n1": ALIVE}
        assert sealed.service.statistics()["dropped_unsealed"] > 0


async def test_what_was_recorded_is_not_heard_again_and_after_the_key_has_gone_not_even_opened(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A sealed packet sent twice is a replay; under a key that was taken away, at the reload, it is nobody's."""
    old, new = os.urandom(32), os.urandom(32)
    recorded: list[bytes] = []

    async def open_recording(place: Place) -> DatagramSocket:
        return Recording(await open_socket(place), recorded)

    async with crowd() as nodes, peer() as vandal:
        one = await nodes.start("n1", keyring_file=keyring_file(tmp_path / "n1", old))
        two = await nodes.start("n2", one, keyring_file=keyring_file(tmp_path / "n2", old), open_socket=open_recording)
        await all_see([one, two], everybody_heard(2))
        counts = one.service.statistics()
        assert (counts.get("dropped_replayed", 0), counts.get("dropped_key", 0)) == (0, 0)
        await trio.sleep(2)
        await two.crash()
        kept = recorded[:10]
        assert len(kept) == 10
        for data in kept:
            await vandal.sendto(data, one.address)
        await one.sees(n1=ALIVE, n2=DEAD)
        assert one.service.statistics()["dropped_replayed"] == 10
        keyring_file(tmp_path / "n1", new)
        one.service.reload()
        for data in kept:
            await vandal.sendto(data, one.address)
        await trio.sleep(RECHECK / 2)
        counts = one.service.statistics()
        assert (counts["dropped_replayed"], counts["dropped_key"]) == (10, 10)


# Clocks.


async def test_a_member_whose_wall_clock_is_set_right_is_heard_again(autojump_clock: MockClock) -> None:
    """Its epoch was a year ahead, which nobody believes; once its clock is right it takes a new epoch and is in."""
    ahead = 365 * 86_400.0

    def wrong_clock() -> float:
        return WALL + trio.current_time() + ahead

    async with crowd() as nodes:
        one = await nodes.start("n1")
        two = await nodes.start("n2", one, wall_clock=wrong_clock)
        await trio.sleep(3)
        assert one.states() == {"n1": ALIVE}
        assert one.service.statistics()["dropped_clock_skew"] > 0
        await two.crash()
        await nodes.start("n2", one)
        await one.sees(n1=ALIVE, n2=ALIVE)
