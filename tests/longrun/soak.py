"""Everything at once, for as long as one likes: mixed load, and kills, rollouts and reloads in random order.

The rule: what is promised is asked for of every single call, against the model's own function, and at the end nothing
may be left of any of them. The cluster is ``trio-gw cluster up``, whose supervisor brings back what is killed; the
clients are the product's own, each of both gateways. One gateway and the supervisor are never killed: what they hold is
compared with what they held when they were warm, both times with no call under way. Replicas are killed and started, so
they are compared with each other.

``python -m tests.longrun.soak --minutes 30`` is ``nox -s soak``; a minute of it is a test.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import httpx2
import trio
from prometheus_client.parser import text_string_to_metric_families

from inferencegw.children import parse_ready_line
from inferencegw.config import split_address
from inferencegw.errors import RpcError
from inferencegw.gateway import record
from inferencegw.policy import prefixes, ring
from inferencegw.rpc import open_channel
from inferencegw.telemetry.catalogue import PREFIX
from inferencegw.testing.answers import Answer
from inferencegw.testing.callers import Caller, Witness
from inferencegw.testing.processes import GET_STATUS
from inferencegw.v1 import admin_pb2, gateway_pb2, gossip_pb2
from tests.gateway.support import INFER

__all__ = ["Soaked", "soak"]

CLIENTS: Final = 12

CALLS_EACH: Final = 10
"""Calls of a client, one after the other, until another one takes its place. High: a gateway that was killed is idle
from then on, for who has moved on stays there. Low: connecting is most of what is done."""

REPLICAS: Final = ("r1", "r2", "r3")
KILLED_GATEWAY: Final = "g2"
SURVIVORS: Final = ("supervisor", "g1")

FLAGS: Final = (
    *("--replicas", str(len(REPLICAS)), "--gateways", "2", "--port", "0", "--token-delay-ms", "25"),
    *("--max-capacity", str(2 * CLIENTS), "--slow-start", "1", "--drain-timeout", "2", "--log-level", "error"),
    *("--gossip-profile", "gateway", "--http-port", "0"),
)
"""Two replicas have room for everybody, so a call that is refused is a fault; and the gossip has the patience that it
has in production, which a busy machine needs."""

BEAT: Final = 2.0
"""Seconds, on average, from when all is well until something happens."""

BETWEEN: Final = 0.05
"""Seconds between two questions to a gateway."""

APART: Final = 1.0
"""Seconds between two looks at what a gateway has counted; they agree once the last connection's tasks have ended."""

PATIENCE: Final = 120.0
"""Seconds until something is done, or all is well again; or the soak is given up."""

WARM_UP: Final = 0.25
"""Of the time, after which what is held is looked at for the first time."""

REMEMBERED: Final = max(record.KEPT, prefixes.KEPT, ring.CACHED)
"""Calls, with a prompt each, that a gateway remembers: a history that fills is no leak, so it is filled beforehand."""

FILLERS: Final = 32
"""Calls at once, meanwhile."""

GROWTH: Final = 1.1
"""How much more memory there may be at the end."""


@attrs.frozen
class Held:
    """What a process holds of the machine."""

    resident_kib: int
    descriptors: int

    @classmethod
    def by(cls, pid: int) -> "Held":
        """See proc(5)."""
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(int(status["VmRSS"].split()[0]), descriptors)


@attrs.frozen
class Counted:
    """What a gateway says of itself: tasks that live, and slots that it has given and had back."""

    tasks: int
    granted: int
    released: int

    @classmethod
    def of(cls, exposition: str) -> "Counted":
        """As it is scraped."""
        samples = {
            sample.name.removeprefix(PREFIX): sample.value
            for family in text_string_to_metric_families(exposition)
            for sample in family.samples
        }
        return cls(*(int(samples[name]) for name in ("tasks", "leases_granted_total", "leases_released_total")))


@attrs.define
class Soaked:
    """What came of it.

    Attributes:
        answered: calls by their kind, all of which were what they had to be.
        tokens: that came, in all of them.
        spliced: calls whose tokens are from more than one replica.
        faults: calls that were not, for people.
        done: what was done to the cluster, and how often.
        warm: what the survivors held after the warm-up.
        end: what they held at the end.
        replicas: what each of those had open at the end.
        tasks: of the gateway that stays, after the warm-up.
        counted: what each gateway had counted at the end.
        inflight: calls that have a replica at the end, or wait for one, by whoever says so.
    """

    answered: Counter[str] = attrs.field(factory=Counter)
    tokens: int = 0
    spliced: int = 0
    faults: list[str] = attrs.field(factory=list)
    done: Counter[str] = attrs.field(factory=Counter)
    warm: dict[str, Held] = attrs.field(factory=dict)
    end: dict[str, Held] = attrs.field(factory=dict)
    replicas: dict[str, int] = attrs.field(factory=dict)
    tasks: int = 0
    counted: dict[str, Counted] = attrs.field(factory=dict)
    inflight: dict[str, int] = attrs.field(factory=dict)

    def check(self) -> None:
        """Every call was what it had to be, everything was done at least once, and nothing is left of any of it."""
        assert self.faults == []
        assert set(self.answered) == set(KINDS)
        assert set(self.done) == set(VERBS)
        assert set(self.inflight.values()) == {0}, self.inflight
        assert self.counted["g1"].tasks == self.tasks, self.counted
        assert self.counted["g1"].granted > 0
        for name, counted in self.counted.items():
            assert counted.granted == counted.released, f"{name}: {counted}"
        assert len(set(self.replicas.values())) == 1, self.replicas
        for name in SURVIVORS:
            warm, end = self.warm[name], self.end[name]
            assert end.descriptors == warm.descriptors, name
            assert end.resident_kib <= GROWTH * warm.resident_kib, f"{name}: {warm} has become {end}"


KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "short": {"max_tokens": 3},
    "long": {"max_tokens": 80},
    "left": {"max_tokens": 80, "leave_after": 5},
    "raced": {"max_tokens": 10, "hedge": "race"},
    "seeded": {"max_tokens": 20, "seed": 7},
}


@attrs.frozen
class _Here:
    """This process, as the host of a client."""

    name: str

    async def run(self, body: Callable[..., Awaitable[None]], /, *args: object) -> None:
        """Run ``body(*args)``."""
        await body(*args)


class Cluster:
    """A running ``trio-gw cluster up``, and what is done to it. Made by :func:`a_cluster`."""

    def __init__(self, pid: int, at: Mapping[str, str]) -> None:
        self.pid = pid
        self.at = at
        self._versions = (f"v{number}" for number in itertools.count(2))

    def pid_of(self, name: str) -> int:
        """Of the process that bears that name now; LookupError while there is none."""
        if name == "supervisor":
            return self.pid
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                words = (process / "cmdline").read_bytes().split(b"\0") if parent == self.pid else []
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
            if b"--id" in words and words[words.index(b"--id") + 1] == name.encode():
                return int(process.name)
        raise LookupError(name)

    async def kill_replica(self, rng: random.Random) -> None:
        """``kill -9``; the supervisor starts it again elsewhere."""
        await self._kill(rng.choice(REPLICAS))

    async def kill_gateway(self, rng: random.Random) -> None:
        """``kill -9`` for the one that may be, once somebody would notice; it comes back where it was."""
        await self.until(lambda status: status.inflight > 0, KILLED_GATEWAY)
        await self._kill(KILLED_GATEWAY)

    async def _kill(self, name: str) -> None:
        before = self.pid_of(name)
        os.kill(before, signal.SIGKILL)
        while True:
            try:
                if self.pid_of(name) != before:
                    return
            except LookupError:
                pass  # its pause
            await trio.sleep(BETWEEN)

    async def reload(self, rng: random.Random) -> None:
        """SIGHUP for everybody."""
        for name in ("g1", "g2", *REPLICAS):
            os.kill(self.pid_of(name), signal.SIGHUP)
        await trio.lowlevel.checkpoint()

    async def roll_out(self, rng: random.Random) -> None:
        """The next version for every replica; the receipt says that nothing was dropped."""
        command = [sys.executable, "-m", "inferencegw", "rollout", "--version", next(self._versions), "--json"]
        where = ["--gateway", self.at["g1"], "--manager", self.at["manager"]]
        # A busy machine takes long to start a process: that is no failure of the new version.
        patience = ["--drain-timeout", "2", "--rejoin-timeout", str(PATIENCE)]
        finished = await trio.run_process([*command, *where, *patience], capture_stdout=True, check=False)
        last = json.loads(finished.stdout.splitlines()[-1])
        assert (finished.returncode, last["phase"], last["receipt"]["dropped"]) == (0, "finished", 0), last

    async def status(self, gateway: str) -> admin_pb2.GatewayStatus:
        """What a gateway says; RpcError while it is not there."""
        async with open_channel(*split_address(self.at[gateway])) as channel:
            answer: admin_pb2.GetStatusResponse = await channel.unary(GET_STATUS, admin_pb2.GetStatusRequest())
        return answer.status

    async def counted(self, gateway: str) -> Counted:
        """What a gateway has counted, once nothing of it changes."""
        before = None
        with trio.fail_after(PATIENCE):
            async with httpx2.AsyncClient(base_url=f"http://{self.at[f'{gateway}-http']}") as client:
                while (now := Counted.of((await client.get("/metrics")).text)) != before:
                    before = now
                    await trio.sleep(APART)
        return now

    async def until(self, holds: Callable[[admin_pb2.GatewayStatus], bool], *gateways: str) -> None:
        """Wait until it ``holds`` of those gateways, by default of both."""
        for gateway in gateways or ("g1", "g2"):
            with trio.fail_after(PATIENCE):
                while True:
                    try:
                        if holds(await self.status(gateway)):
                            break
                    except (RpcError, OSError):
                        pass  # it is being started again
                    await trio.sleep(BETWEEN)


VERBS: Final[Mapping[str, Callable[[Cluster, random.Random], Awaitable[None]]]] = {
    "kill a replica": Cluster.kill_replica,
    "kill a gateway": Cluster.kill_gateway,
    "roll out": Cluster.roll_out,
    "reload": Cluster.reload,
}


WELL: Final = (gossip_pb2.MEMBER_STATE_ALIVE, admin_pb2.BREAKER_STATE_CLOSED)


def is_well(status: admin_pb2.GatewayStatus) -> bool:
    """Whether it has every replica, each one alive and open to calls."""
    usable = [one.replica_id for one in status.replicas if one.connected and (one.state, one.breaker) == WELL]
    return sorted(usable) == sorted(REPLICAS)


def is_quiet(status: admin_pb2.GatewayStatus) -> bool:
    """Whether it also has no call."""
    return is_well(status) and _calls(status) == 0


def _calls(status: admin_pb2.GatewayStatus) -> int:
    return status.inflight + status.queue_depth + sum(replica.inflight for replica in status.replicas)


@asynccontextmanager
async def a_cluster() -> AsyncIterator[Cluster]:
    """One that is up, for the block."""
    # On the leash of a child: it goes down with us, however we end.
    command = [sys.executable, "-m", "inferencegw.cli._leash", "cluster", "up", *FLAGS]
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
        process: trio.Process = await nursery.start(start)
        assert process.stdout is not None
        async with process.stdout:
            line = (await process.stdout.receive_some()).decode()
            at = parse_ready_line(line)
            assert at, line
            try:
                yield Cluster(process.pid, at)
            finally:
                process.terminate()
                with trio.CancelScope(shield=True):  # or it would be killed, and nobody take its children down
                    status = await process.wait()
            assert status == 0


async def soak(seconds: float, seed: int) -> Soaked:
    """Soak a cluster for so many seconds, with what is done to it drawn from ``seed``."""
    rng = random.Random(seed)
    result = Soaked()
    async with a_cluster() as cluster:
        await cluster.until(is_well)
        await _fill(cluster, rng)
        await _strain(cluster, WARM_UP * seconds, rng, result)
        result.warm = {name: Held.by(cluster.pid_of(name)) for name in SURVIVORS}
        result.tasks = (await cluster.counted("g1")).tasks
        await _strain(cluster, (1 - WARM_UP) * seconds, rng, result)
        result.end = {name: Held.by(cluster.pid_of(name)) for name in SURVIVORS}
        result.replicas = {name: Held.by(cluster.pid_of(name)).descriptors for name in REPLICAS}
        result.counted = {name: await cluster.counted(name) for name in ("g1", "g2")}
        result.inflight = {name: _calls(await cluster.status(name)) for name in ("g1", "g2")}
    return result


async def _fill(cluster: Cluster, rng: random.Random) -> None:
    """Have the gateway that stays remember as many calls as it ever will, of the kinds that are to come."""
    numbers = iter(range(REMEMBERED))
    async with open_channel(*split_address(cluster.at["g1"])) as channel, trio.open_nursery() as nursery:

        async def ask() -> None:
            for number in numbers:
                hedge, name = rng.choice([(gateway_pb2.HEDGE_RACE, ""), (gateway_pb2.HEDGE_NEVER, f"{number:032x}")])
                prompt = f"{number} is to be remembered"
                request = gateway_pb2.InferRequest(prompt=prompt, max_tokens=3, hedge=hedge, request_id=name)
                async with channel.open_stream(INFER, request) as stream:
                    assert [token.index async for token in stream] == [0, 1, 2]

        for _ in range(FILLERS):
            nursery.start_soon(ask)


async def _strain(cluster: Cluster, seconds: float, rng: random.Random, result: Soaked) -> None:
    """Load and trouble for so many seconds, until of each kind there was as much; then until nothing is under way."""
    until = trio.current_time() + seconds
    over = trio.Event()
    gateways = {name: cluster.at[name] for name in ("g1", "g2")}
    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(_clients, f"c{number}", gateways, over, random.Random(rng.random()), result)
        verbs = rng.sample(sorted(VERBS), len(VERBS))
        while trio.current_time() < until or verbs:
            await trio.sleep(rng.uniform(0.5, 1.5) * BEAT)
            verbs = verbs or rng.sample(sorted(VERBS), len(VERBS))
            verb = verbs.pop()
            with trio.fail_after(PATIENCE):
                await VERBS[verb](cluster, rng)
            result.done[verb] += 1
            await cluster.until(is_well)
        over.set()
    await cluster.until(is_quiet)


async def _clients(
    name: str, gateways: Mapping[str, str], over: trio.Event, rng: random.Random, result: Soaked
) -> None:
    """One client after the other, each of which asks one call after the other, of any kind."""
    for number in itertools.count():
        if over.is_set():
            break
        caller = Caller(_Here(f"{name}.{number}"), gateways, Witness())
        async with trio.open_nursery() as nursery:
            await nursery.start(caller.run)
            for call in range(CALLS_EACH):
                if over.is_set():
                    break
                kind = rng.choice(sorted(KINDS))
                answer = await caller.generate(f"{caller.name} asks for the {call}th time", **KINDS[kind])
                _judge(kind, answer, result)
            await caller.leave()


def _judge(kind: str, answer: Answer, result: Soaked) -> None:
    is_right = answer.left and len(answer.tokens) == KINDS[kind]["leave_after"] if kind == "left" else answer.is_whole
    result.answered[kind] += 1
    result.tokens += len(answer.tokens)
    result.spliced += len(answer.replicas) > 1
    if not is_right:
        result.faults.append(f"{kind}: {answer}: {answer.message}")


def main() -> None:
    """Soak, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = trio.run(soak, 60.0 * options.minutes, options.seed)
    print(result)
    result.check()


if __name__ == "__main__":
    main()
