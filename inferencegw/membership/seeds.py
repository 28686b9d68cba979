"""The seeds: members that are named in the configuration, and how this one finds its way in through them.

The rule: a seed is a name, and is looked up again at each try, because in an orchestrator it is the addresses that
change. A member that knows nobody tries often. One that does looks the names up now and then, and announces itself to
what is new behind them; the protocol goes on to try those that never answered. So two clusters that formed side by
side, each believing to be the whole, become one.
"""

import socket
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import structlog
import trio

from inferencegw.config import split_address
from inferencegw.membership.view import Cluster, ClusterView
from inferencegw.swim.meta import Address

__all__ = ["Family", "resolve_seeds", "seek"]

LONELY_RETRY: Final = 1.0
"""Seconds between two looks at the seeds while nobody else is known. High: processes that were started in the wrong
order find each other late. Low: more questions to the name server."""

RECHECK: Final = 30.0
"""Seconds between two looks at the seeds otherwise. High: a seed that has moved is found late. Low: more questions to
the name server."""

Family: TypeAlias = socket.AddressFamily

log = structlog.get_logger(__name__)


async def seek(
    seeds: Iterable[str],
    family: Family,
    cluster: Cluster,
    *,
    is_here: Callable[[Address], bool],
    announce: Callable[[list[Address]], None],
) -> None:
    """Call ``announce`` with the addresses of ``seeds``, our own excepted; for ever, if there are any seeds."""
    await trio.lowlevel.checkpoint()
    announced: list[Address] = []
    told: dict[str, str] = {}
    while seeds:
        found = [address for address in await resolve_seeds(seeds, family, told) if not is_here(address)]
        alone = cluster.view.is_alone
        if found and (alone or found != announced):
            announced = found
            announce(found)
        with trio.move_on_after(LONELY_RETRY if alone else RECHECK):
            await (cluster.wait_until(_has_company) if alone else cluster.wait_until(_is_alone))


async def resolve_seeds(seeds: Iterable[str], family: Family, told: dict[str, str]) -> list[Address]:
    """Every address behind the names of ``seeds``, in figures; those that cannot be looked up now are passed over.

    Why not is logged once: ``told`` keeps it by seed, from one call to the next, for as long as it is so.
    """
    found: set[Address] = set()
    await trio.lowlevel.checkpoint()
    for seed in seeds:
        host, port = split_address(seed)
        try:
            answers = await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:  # the latter for what no name can be
            if told.get(seed) != str(error):
                told[seed] = str(error)
                log.warning("seed cannot be looked up", seed=seed, reason=told[seed])
        else:
            told.pop(seed, None)
            found.update((str(address[0]), int(address[1])) for *_, address in answers)
    return sorted(found)


def _is_alone(view: ClusterView) -> bool:
    return view.is_alone


def _has_company(view: ClusterView) -> bool:
    return not view.is_alone
