"""Which processes a local cluster has, and each one's command line. Pure.

The rule: a gateway keeps its ports when it is started again, because its clients know them and the others look for it
there; a replica takes free ones, because the gossip tells where it is. Whoever starts joins all gateways that have been
up, running or not, and all replicas that run: so it does not matter who of them is the last one left.
"""

from collections.abc import Mapping, Sequence

import attrs

from inferencegw.config import split_address

__all__ = ["Plan"]


@attrs.frozen(kw_only=True)
class Plan:
    """A cluster on this machine.

    Attributes:
        gateways: how many, called ``g1`` and so on.
        replicas: how many, called ``r1`` and so on.
        port: of the first gateway, the others' follow; 0 for free ones.
        gossip_port: likewise, where they gossip.
        http_port: likewise, where they serve HTTP; None where they do not.
        common: flags for all.
        gateway_flags: flags for gateways.
        replica_flags: flags for replicas, but their version.
    """

    gateways: int
    replicas: int
    port: int = 0
    gossip_port: int = 0
    http_port: int | None = None
    common: tuple[str, ...] = ()
    gateway_flags: tuple[str, ...] = ()
    replica_flags: tuple[str, ...] = ()

    @property
    def gateway_names(self) -> list[str]:
        """In order."""
        return [f"g{number + 1}" for number in range(self.gateways)]

    @property
    def replica_names(self) -> list[str]:
        """In order."""
        return [f"r{number + 1}" for number in range(self.replicas)]

    @property
    def names(self) -> list[str]:
        """Everybody's."""
        return self.gateway_names + self.replica_names

    def gateway(self, number: int, earlier: Mapping[str, str], joins: Sequence[str]) -> list[str]:
        """The command line of the gateway with this number, from 0; ``earlier`` is where it was, if it was.

        ``joins`` are the addresses at which the others gossip.
        """

        def port(kind: str, first: int) -> int:
            return split_address(earlier[kind])[1] if kind in earlier else first and first + number

        ports = [port("grpc", self.port), port("gossip", self.gossip_port)]
        http = () if self.http_port is None else ("--http-port", str(port("http", self.http_port)))
        return ["run", *self._flags(self.gateway_names[number], ports, joins), *http, *self.gateway_flags]

    def replica(self, name: str, version: str, joins: Sequence[str]) -> list[str]:
        """The command line of that replica."""
        flags = [*self._flags(name, [0, 0], joins), *self.replica_flags]
        return ["replica", *flags, f"--model-version={version}"]

    def _flags(self, name: str, ports: Sequence[int], joins: Sequence[str]) -> list[str]:
        port, gossip_port = map(str, ports)
        joining = [flag for address in dict.fromkeys(joins) for flag in ("--join", address)]
        return ["--id", name, "--port", port, "--gossip-port", gossip_port, *joining, *self.common]
