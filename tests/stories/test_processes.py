"""The same stories as processes: where the operating system kills, stops and ends, and the ports are new each time."""

from itertools import count

import trio

from inferencegw.swim.member import MemberState
from inferencegw.testing.processes import ProcessCluster, open_processes

ALIVE, SUSPECT, DEAD, LEFT = MemberState

PATIENCE = 60.0
"""Seconds until a test is given up: processes take a second to start where many do."""

RETURN = 2.0
"""Seconds from being ready to being routable again."""


async def served_by(cluster: ProcessCluster, *names: str) -> None:
    """Ask until each of these has answered; nobody else may."""
    answered: set[str] = set()
    for number in count():  # prompts that begin differently belong to different replicas
        if answered == set(names):
            return
        answered.update((await cluster.generate(f"{number} hellos", max_tokens=1)).replicas)
        assert answered <= set(names)


async def test_a_killed_replica_is_dead_and_unrouted_and_routable_again_when_it_is_back_elsewhere() -> None:
    """After kill -9, the same name on another port: found again within two seconds of being ready."""
    with trio.fail_after(PATIENCE):
        async with open_processes() as cluster:
            first = cluster.children["r1"]
            before = await cluster.sees(r1=ALIVE, r2=ALIVE)
            await served_by(cluster, "r1", "r2")
            cluster.crash("r1")
            await cluster.sees(r1=DEAD, r2=ALIVE)
            assert ("r1", SUSPECT) in cluster.sightings
            for _ in range(10):
                assert (await cluster.generate("hello", max_tokens=1)).replicas == ["r2"]
            again = await cluster.restart("r1")
            ready = trio.current_time()
            after = await cluster.sees(r1=ALIVE, r2=ALIVE)
            await served_by(cluster, "r1", "r2")
            assert trio.current_time() - ready < RETURN
            assert again.addresses["grpc"] != first.addresses["grpc"]
            assert after["r1"].meta.grpc_address == again.addresses["grpc"]
            assert after["r1"].status.epoch > before["r1"].status.epoch


async def test_a_stream_whose_replica_is_killed_goes_on_at_the_other() -> None:
    """Kill -9 at token 10 of 20: exactly twenty tokens, each once, from two replicas."""
    with trio.fail_after(PATIENCE):
        async with open_processes() as cluster, cluster.open_client() as client:
            async with client.stream("tell me", max_tokens=20) as stream:
                await stream.read(10)
                cluster.crash(stream.answer.replicas[0])
                await stream.finish()
            assert stream.answer.is_whole
            assert stream.answer.indexes == list(range(20))
            assert len(stream.answer.replicas) == 2


async def test_a_replica_that_is_told_to_go_says_so_finishes_its_stream_and_has_left() -> None:
    """SIGTERM: no new call reaches it, its running one is whole, and nobody ever suspects it."""
    with trio.fail_after(PATIENCE):
        async with open_processes() as cluster, cluster.open_client() as client:
            async with client.stream("a long story", max_tokens=30) as stream:
                await stream.read(1)
                [leaving] = stream.answer.replicas
                [other] = {"r1", "r2"} - {leaving}
                cluster.leave(leaving)
                await cluster.until(lambda members: members[leaving].meta.cordoned)
                for _ in range(5):
                    assert (await cluster.generate("hello", max_tokens=1)).replicas == [other]
                await stream.finish()
            assert stream.answer.is_whole
            assert stream.answer.replicas == [leaving]
            await cluster.sees(**{leaving: LEFT, other: ALIVE})
            assert await cluster.children[leaving].process.wait() == 0
            assert {state for name, state in cluster.sightings if name == leaving} == {ALIVE, LEFT}


async def test_a_replica_that_was_frozen_comes_back_by_itself() -> None:
    """SIGSTOP until it is declared dead, then SIGCONT: the same process objects, and is ALIVE again."""
    with trio.fail_after(PATIENCE):
        async with open_processes() as cluster:
            before = await cluster.sees(r1=ALIVE, r2=ALIVE)
            cluster.freeze("r1")
            await cluster.sees(r1=DEAD, r2=ALIVE)
            cluster.thaw("r1")
            after = await cluster.sees(r1=ALIVE, r2=ALIVE)
            assert after["r1"].status.epoch == before["r1"].status.epoch
            assert after["r1"].status.incarnation > before["r1"].status.incarnation
            await served_by(cluster, "r1", "r2")
