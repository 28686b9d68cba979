"""Kill -9 under load: clients that never stop asking, and replicas of which one dies every five seconds.

The rule: one body, for as many seconds as there are. The beat is the story's: a kill each :data:`BEAT` seconds, or when
the last victim is back, where the machine takes longer for that; so as many die on a busy machine as on a quiet one.
"""

from typing import Final

import attrs
import trio

from inferencegw.swim.member import MemberState
from inferencegw.testing.processes import ProcessCluster, open_processes, state_of
from inferencegw.v1 import admin_pb2
from tests.stories.crowd import Account, open_crowd

__all__ = ["Outcome", "kill_under_load"]

CLIENTS: Final = 200
"""Streams at once, all the time."""

REPLICAS: Final = ("r1", "r2", "r3")

FLAGS: Final = ("--token-delay-ms", "200", "--max-capacity", "120")
"""Two replicas can carry all, and a thousand tokens a second are a load that two shared processors can. A stream takes
1.6 to 5.6 seconds: it may lose two replicas, and has ended before it could lose the four that would be poison."""

BEAT: Final = 5.0
"""Seconds from one kill to the next; the first comes after half of them."""

PATIENCE: Final = 60.0
"""Seconds, beyond those of the story, until it is given up."""


@attrs.frozen
class Outcome:
    """What came of it.

    Attributes:
        account: of the clients.
        killed: the victims, in order.
        slots_held: that the gateway still holds, of each replica, when every stream has ended.
        breakers: of the replicas that live then.
    """

    account: Account
    killed: list[str]
    slots_held: dict[str, int]
    breakers: set["admin_pb2.BreakerState"]

    def check(self, seconds: float) -> None:
        """Nothing failed, came twice, was lost or altered; as many were killed as ``seconds`` have room for, each with
        streams on it; and the gateway holds nothing back and holds nothing against those that live.
        """
        account = self.account
        assert not account.faults, f"{account.faults} of {account}"
        assert self.killed == [REPLICAS[number % len(REPLICAS)] for number in range(int(seconds / BEAT))]
        # Not equal: a replica that a busy machine does not let run for seconds is rightly left as well.
        assert set(account.broken) >= set(self.killed), f"no stream had to leave one of them: {account}"
        assert self.slots_held == dict.fromkeys(REPLICAS, 0)
        assert self.breakers == {admin_pb2.BREAKER_STATE_CLOSED}


async def kill_under_load(seconds: float) -> Outcome:
    """Kill a replica and start it again, one after the other, while all clients are served for so many ``seconds``."""
    killed: list[str] = []
    with trio.fail_after(seconds + PATIENCE):
        async with open_processes(len(REPLICAS), replica_flags=FLAGS) as cluster:
            async with open_crowd(CLIENTS, cluster.children["g1"].addresses["grpc"]) as crowd:
                began = trio.current_time()
                for number in range(int(seconds / BEAT)):
                    await trio.sleep_until(began + (number + 0.5) * BEAT)
                    killed.append(REPLICAS[number % len(REPLICAS)])
                    await _kill_and_restart(cluster, killed[-1])
                await trio.sleep_until(began + seconds)
                account = await crowd.finish()
            replicas = (await cluster.status()).replicas
    return Outcome(
        account=account,
        killed=killed,
        slots_held={replica.replica_id: replica.inflight for replica in replicas},
        breakers={replica.breaker for replica in replicas},
    )


async def _kill_and_restart(cluster: ProcessCluster, name: str) -> None:
    """SIGKILL; the same name on other ports; and the gateway has seen that."""
    cluster.crash(name)
    again = await cluster.restart(name)
    await cluster.until(
        lambda members: (
            state_of(members[name]) is MemberState.ALIVE and members[name].meta.grpc_address == again.addresses["grpc"]
        )
    )
