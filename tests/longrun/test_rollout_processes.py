"""Rolling updates of child processes, and what may go wrong meanwhile: zero failed, zero cut, every token exact.

The same in one process, and in virtual time, is in ``tests/stories/test_rolling_update.py``; twenty of the first one in
a row are in ``test_rollouts.py``.
"""

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio

from inferencegw.testing import Answer
from inferencegw.testing.callers import Caller
from inferencegw.testing.manager import Rollout
from tests.stories.crowd import Account, open_crowd
from tests.stories.rolling import FINISHED, STOPPED, Rolling, open_rolling

PATIENCE: Final = 180.0
"""Seconds until one is given up: five processes take a while to start where many do."""

CLIENTS: Final = 40
"""Streams at once; two replicas can carry them, or the one that is left when another is killed."""

TOKENS: Final = 100
"""Of a stream, which takes four seconds: at the first cordon the first ones are under way, all of them."""

CALLERS: Final = 12


def nothing_failed(account: Account) -> None:
    """Every stream has every token, each once and unaltered, and says so."""
    assert (account.faults, account.first_fault) == ({}, "")
    assert account.streams > CLIENTS


def serve(version: str, replicas: int = 3) -> dict[str, str]:
    """All of them do."""
    return {f"r{number + 1}": version for number in range(replicas)}


@pytest.mark.parametrize(("replicas", "gateways"), [pytest.param(2, 1, marks=pytest.mark.brief), (3, 1), (3, 2)])
async def test_a_rollout_under_a_crowd_drops_nothing_and_its_receipt_is_what_the_crowd_counted(
    replicas: int, gateways: int
) -> None:
    """As many calls and as many handed over as the clients have seen, at all gateways together; all v2."""
    rollout, names = Rollout(), [f"g{number + 1}" for number in range(gateways)]
    with trio.fail_after(PATIENCE):
        async with open_rolling(replicas, gateways, capacity=CLIENTS) as rolling:
            crowds = open_crowd(CLIENTS, *map(rolling.address, names), tokens=TOKENS)
            async with crowds as crowd, trio.open_nursery() as nursery:
                nursery.start_soon(rolling.order, rollout)
                await rollout.until("CANARY", f"r{replicas}")
                account = await crowd.finish()
            assert await rolling.versions() == serve("v2", replicas)
    nothing_failed(account)
    rolling.check_that_one_was_out_at_most()
    assert frozenset().union(*rolling.looks) == set(serve("v2", replicas)), "each of them, and that was seen"
    receipt = rollout.last.receipt
    assert (rollout.last.phase, receipt.requests_total, receipt.requests_dropped) == (FINISHED, account.streams, 0)
    assert receipt.requests_handed_over == account.moved > 0
    assert (list(receipt.gateways), list(receipt.unasked)) == (names, [])


async def test_a_replica_that_is_killed_meanwhile_is_waited_for_before_another_one_is_taken() -> None:
    """r3 dies while r1 is started: r1 comes back, r2 waits until r3 does, and the one in between carries everything."""
    rollout = Rollout()
    with trio.fail_after(PATIENCE):
        async with open_rolling(3, 1, capacity=CLIENTS) as rolling:
            crowds = open_crowd(CLIENTS, rolling.address("g1"), tokens=TOKENS)
            async with crowds as crowd, trio.open_nursery() as nursery:
                nursery.start_soon(rolling.order, rollout)
                await rollout.until("STOP", "r1")
                rolling.cluster.crash("r3")
                await rollout.until_told("r3 is dead")
                assert ("CORDON", "r2") not in rollout.phases
                assert ("REPLICA_DONE", "r1") in rollout.phases
                await rolling.cluster.restart("r3")
                await rollout.until("CANARY", "r3")
                account = await crowd.finish()
            assert await rolling.versions() == serve("v2")
    nothing_failed(account)
    rolling.check_that_one_was_out_at_most("r3")
    receipt = rollout.last.receipt
    assert (rollout.last.phase, receipt.requests_total, receipt.requests_dropped) == (FINISHED, account.streams, 0)
    assert account.broken["r3"] > 0
    assert 0 < receipt.requests_handed_over <= account.moved  # the others have lost a replica


async def test_a_gateway_that_cannot_be_asked_is_named_and_the_others_are_summed() -> None:
    """g3 hangs before the last replica is done; nobody had asked it for anything."""
    rollout = Rollout()
    with trio.fail_after(PATIENCE):
        async with open_rolling(3, 3, capacity=CLIENTS) as rolling:
            crowds = open_crowd(CLIENTS, rolling.address("g1"), rolling.address("g2"), tokens=TOKENS)
            async with crowds as crowd, trio.open_nursery() as nursery:
                nursery.start_soon(rolling.order, rollout)
                await rollout.until("STOP", "r3")
                rolling.cluster.freeze("g3")
                await rollout.until("CANARY", "r3")
                account = await crowd.finish()
            assert await rolling.versions() == serve("v2")
    nothing_failed(account)
    rolling.check_that_one_was_out_at_most()
    receipt = rollout.last.receipt
    assert (rollout.last.phase, receipt.requests_total, receipt.requests_dropped) == (FINISHED, account.streams, 0)
    assert receipt.requests_handed_over == account.moved > 0
    assert list(receipt.gateways) == ["g1", "g2"]
    assert [line.partition(":")[0] for line in receipt.unasked] == ["g3"]


@asynccontextmanager
async def asking(rolling: Rolling, *gateways: str) -> AsyncIterator[list[Answer]]:
    """Clients of the product, each of all ``gateways``, which ask until the block ends; what they were answered."""
    answers: list[Answer] = []
    over = trio.Event()

    async def ask(client: Caller) -> None:
        while not over.is_set():
            answers.append(await client.generate(f"{client.name} asks {len(answers)}", max_tokens=TOKENS))

    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        openings = (rolling.cluster.open_client(*gateways, name=f"c{number}") for number in range(CALLERS))
        for client in [await stack.enter_async_context(opening) for opening in openings]:
            nursery.start_soon(ask, client)
        yield answers
        over.set()


@pytest.mark.parametrize("where", ["g1", "g2"])
async def test_a_rollout_outlives_the_gateway_that_runs_it_and_its_clients_do_too(where: str) -> None:
    """g1 dies while r2 is stopped. At g2, or at g1 when that is back, the rollout goes on with r2 by its file, and the
    receipt has all but what g1 had counted before.
    """
    first, second, back = Rollout(), Rollout(), math.inf
    with trio.fail_after(PATIENCE):
        async with open_rolling(3, 2, capacity=CALLERS, watched="g2") as rolling:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rolling.order, first)
                await first.until("CORDON", "r1")
                async with asking(rolling, "g1", "g2") as answers:
                    await first.until("STOP", "r2")
                    rolling.cluster.crash("g1")
                    if where == "g1":
                        await rolling.cluster.restart("g1")
                        back = trio.current_time()
                    nursery.start_soon(partial(rolling.order, second, where, resume=True, model_version=""))
                    await second.until("CANARY", "r3")
            assert await rolling.versions("g2") == serve("v2")
    assert [answer for answer in answers if not answer.is_whole] == []
    rolling.check_that_one_was_out_at_most()
    assert second.phases[0][1] == "r2"
    assert [name for phase, name in second.phases if phase == "REPLICA_DONE"] == ["r2", "r1", "r3"]
    assert any(answer.trailer("gw-delivered") != str(TOKENS) for answer in answers), "no stream was cut by the kill"
    lost = [answer for answer in answers if answer.gateway == "g1" and answer.ended < back]
    told = {"g1": "it was started again, and what was counted before that is lost", "g2": "it is gone"}
    receipt = second.last.receipt
    assert second.last.phase == FINISHED
    assert (receipt.requests_total, receipt.requests_dropped) == (len(answers) - len(lost), 0)
    assert (list(receipt.gateways), list(receipt.unasked)) == (["g2"], [f"g1: {told[where]}"])


async def test_a_bad_version_halts_after_one_replica_and_is_rolled_back_under_a_crowd() -> None:
    """v2 leaves out a token: its canary sees it, its clients do not. Nothing else is touched, then or afterwards."""
    rollout, back = Rollout(), Rollout()
    with trio.fail_after(PATIENCE):
        async with open_rolling(3, 1, capacity=CLIENTS, changes={"v2": ("--fault", "skip@3")}) as rolling:
            async with open_crowd(CLIENTS, rolling.address("g1"), tokens=TOKENS) as crowd:
                await rolling.order(rollout)
                halted = await rolling.versions()
                await rolling.order(back, rollback=True, model_version="")
                account = await crowd.finish()
            assert (halted, await rolling.versions()) == ({**serve("v1"), "r1": "v2"}, serve("v1"))
            count = await rolling.count("g1")
    nothing_failed(account)
    rolling.check_that_one_was_out_at_most()
    assert set(rolling.looks) == {frozenset(), frozenset({"r1"})}
    assert (rollout.last.phase, rollout.last.replica_id) == (STOPPED, "r1")
    assert rollout.last.message == "its canary has failed: its tokens came as 0, 1, 2, 4, 5, 6, 7"
    assert back.last.phase == FINISHED
    assert [one.last.receipt.requests_dropped for one in (rollout, back)] == [0, 0]
    assert count == {"total": account.streams, "running": 0, "dropped": 0}


async def test_a_rollout_that_would_overload_the_rest_touches_nothing_and_says_by_how_much() -> None:
    """Six generations on eight slots: without r1 there are four. They are all there at the end."""
    rollout = Rollout()
    with trio.fail_after(PATIENCE):
        async with open_rolling(2, 1, capacity=4) as rolling, AsyncExitStack() as stack:
            streams = []
            for number in range(6):
                client = await stack.enter_async_context(rolling.cluster.open_client(name=f"c{number}"))
                streams.append(await stack.enter_async_context(client.stream(f"prompt {number}", max_tokens=TOKENS)))
                await streams[-1].read(1)
            await rolling.order(rollout)
            for stream in streams:
                await stream.finish()
            assert await rolling.versions() == serve("v1", 2)
    assert [stream.answer.is_whole for stream in streams] == [True] * 6
    assert (rolling.looks, rolling.hands.most_out) == ([frozenset()], 0)
    assert rollout.phases == [("STOPPED", "")]
    words = "6 generations run or wait, and without r1 there are 4 slots (r2): 2 too few"
    assert rollout.last.message == words
    assert (rollout.last.receipt.requests_total, rollout.last.receipt.requests_dropped) == (6, 0)
