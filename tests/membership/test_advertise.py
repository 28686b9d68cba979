"""membership/advertise.py: the address that others are told, and never a loopback one by accident."""

import socket
from typing import Any

import pytest
import trio

from inferencegw.config import ReplicaConfig
from inferencegw.errors import ConfigError
from inferencegw.membership import advertise
from inferencegw.membership.advertise import Place, find_place

NAMES = {
    "here.test": ["127.0.0.1"],
    "both.test": ["::1", "127.0.0.1"],
    "seed.test": ["192.0.2.7", "192.0.2.8"],
    "me.test": ["192.0.2.1"],
}


class Names(trio.abc.HostnameResolver):
    """A name server that knows NAMES, and addresses."""

    async def getaddrinfo(self, host: Any, port: Any, family: int = 0, type: int = 0, *_: Any) -> list[Any]:  # noqa: A002
        await trio.lowlevel.checkpoint()
        found = []
        for address in NAMES.get(host.decode(), []):
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            if family in {0, kind}:
                found.append((kind, type, 17, "", (address, port, 0, 0) if ":" in address else (address, port)))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    async def getnameinfo(self, *_: Any) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
def facing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this machine's addresses are, on the way to each of the hosts that are asked for in turn."""
    answers = ["10.0.0.5"]

    async def _facing(_family: int, _hosts: Any) -> str | None:
        await trio.lowlevel.checkpoint()
        return answers[0] or None

    monkeypatch.setattr(advertise, "_facing", _facing)
    return answers


async def place(**options: Any) -> Place:
    """Where a member is with this configuration; names are looked up in NAMES."""
    trio.socket.set_custom_hostname_resolver(Names())
    return await find_place(ReplicaConfig(**{"gossip_port": 7946, **options}))


async def test_by_default_it_is_where_it_listens() -> None:
    """An address of the network, or loopback among members that are all on this machine."""
    assert await place() == Place(socket.AF_INET, ("127.0.0.1", 7946), "127.0.0.1", "127.0.0.1")
    assert (await place(host="10.1.2.3")).host == "10.1.2.3"
    assert (await place(host="::1")).family is socket.AF_INET6
    assert (await place(join=["127.0.0.1:1", "here.test:1"])).host == "127.0.0.1"


async def test_a_name_listens_at_its_first_address_of_ipv4() -> None:
    """One socket has one family."""
    assert (await place(host="both.test")).bind == ("127.0.0.1", 7946)


async def test_a_wildcard_is_advertised_as_the_address_that_faces_the_network(facing: list[str]) -> None:
    """Even where all seeds are on this machine: others may come from elsewhere."""
    assert (await place(host="0.0.0.0")).host == "10.0.0.5"
    assert (await place(host="0.0.0.0", join=["127.0.0.1:1"])).host == "10.0.0.5"


async def test_without_a_network_a_wildcard_needs_to_be_told(facing: list[str]) -> None:
    """Never 127.0.0.1 by accident."""
    facing[0] = ""
    with pytest.raises(ConfigError, match=r"ReplicaConfig.host = '0.0.0.0': .*: give --advertise HOST"):
        await place(host="0.0.0.0")
    assert (await place(host="0.0.0.0", advertise="127.0.0.1")).host == "127.0.0.1"


async def test_what_the_operator_says_goes_in_figures_for_gossip_and_as_it_is_for_grpc() -> None:
    """Certificates are for names."""
    it = await place(host="0.0.0.0", advertise="me.test", join=["seed.test:7946"])
    assert (it.bind, it.host, it.grpc_host) == (("0.0.0.0", 7946), "192.0.2.1", "me.test")


async def test_an_address_to_advertise_that_cannot_be_looked_up_is_refused() -> None:
    """At the start, by its name."""
    with pytest.raises(ConfigError, match=r"advertise = 'nobody.test': Name or service not known"):
        await place(advertise="nobody.test")


@pytest.mark.parametrize("seed", ["192.0.2.7:7946", "seed.test:7946"])
@pytest.mark.parametrize(
    "options",
    [{}, {"host": "0.0.0.0", "advertise": "127.0.0.1"}, {"host": "127.0.0.1", "advertise": "192.0.2.1"}],
)
async def test_joining_beyond_this_machine_with_a_loopback_address_is_refused(
    seed: str, options: dict[str, str]
) -> None:
    """Nobody could answer: the line names the flag to set."""
    with pytest.raises(ConfigError, match=r"ReplicaConfig.join: 192.0.2.7:7946 is beyond .* --advertise HOST"):
        await place(join=[seed], **options)


async def test_a_seed_that_cannot_be_looked_up_yet_is_no_error() -> None:
    """A headless service has no addresses before its first pod is ready."""
    assert (await place(join=["later.test:7946"])).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("bind", "address", "expected"),
    [
        ("0.0.0.0", ("10.0.0.5", 7946), True),
        ("0.0.0.0", ("127.0.0.1", 7946), True),
        ("10.0.0.9", ("10.0.0.9", 7946), True),
        ("10.0.0.9", ("127.0.0.1", 7946), False),
        ("0.0.0.0", ("10.0.0.5", 7947), False),
        ("0.0.0.0", ("10.0.0.6", 7946), False),
    ],
)
def test_a_member_knows_which_addresses_are_its_own(bind: str, address: tuple[str, int], expected: bool) -> None:
    """A seed that turns out to be oneself is not joined."""
    assert Place(socket.AF_INET, (bind, 0), "10.0.0.5", "10.0.0.5").is_here(address, 7946) is expected


async def test_the_way_out_is_asked_of_the_system() -> None:
    """Nothing is sent for it; loopback does not count as a way to anywhere."""
    assert await advertise._facing(socket.AF_INET, ["127.0.0.1"]) is None
    ours = await advertise._facing(socket.AF_INET, ["127.0.0.1", "192.0.2.1"])
    assert ours is None or not ours.startswith("127.")
