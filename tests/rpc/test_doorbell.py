"""A doorbell keeps one ring, wakes one waiter, and lets a cancelled waiter go."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from inferencegw.rpc.doorbell import Doorbell


async def test_a_ring_before_the_wait_is_kept_once() -> None:
    """Two rings are one piece of news: look again."""
    bell = Doorbell()
    bell.ring()
    bell.ring()
    await bell.wait()
    with trio.move_on_after(0) as scope:
        await bell.wait()
    assert scope.cancelled_caught


async def test_a_ring_wakes_the_waiter() -> None:
    """And is used up by that."""
    bell, woken = Doorbell(), []

    async def wait() -> None:
        await bell.wait()
        woken.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        bell.ring()
    assert woken == [True]


async def test_a_cancelled_waiter_leaves_the_bell_usable() -> None:
    """The next ring is for the next waiter."""
    bell = Doorbell()
    with trio.move_on_after(0):
        await bell.wait()
    bell.ring()
    await bell.wait()


async def test_two_waiters_are_a_mistake() -> None:
    """They would race for one ring."""
    bell = Doorbell()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bell.wait)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await bell.wait()
        bell.ring()
