"""Running a simulation: what comes back, and what a failure tells."""

import time

import pytest
import trio

from inferencegw.testing import SimNetwork, StuckError, simulate


def test_hours_take_no_time() -> None:
    """Sleeping is free, and what the body returns comes back."""

    async def body(network: SimNetwork) -> str:
        await trio.sleep(80_000)
        return "rested"

    began = time.monotonic()
    result = simulate(body, seed=1, time_limit=90_000)
    assert result.value == "rested"
    assert result.seconds == pytest.approx(80_000)
    assert time.monotonic() - began < 10


def test_a_failure_tells_the_seed_and_what_happened_last() -> None:
    """All that is needed to see it again."""

    async def body(network: SimNetwork) -> None:
        network.host("somebody")
        await trio.sleep(2)
        raise ValueError("oops")

    with pytest.raises(ValueError, match="oops") as caught:
        simulate(body, seed=4711)
    [note] = caught.value.__notes__
    assert note.startswith("seed 4711, 2.000 virtual seconds")
    assert "host somebody 10." in note


def test_a_body_that_does_not_end_is_ended() -> None:
    """After its limit, in virtual time."""

    async def body(network: SimNetwork) -> None:
        await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError) as caught:
        simulate(body, seed=1, time_limit=60)
    assert "60.000 virtual seconds" in caught.value.__notes__[0]


def test_tasks_that_cannot_be_cancelled_do_not_hang_the_test() -> None:
    """What waits behind a shield for ever is found out, and said."""

    async def body(network: SimNetwork) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            with trio.CancelScope(shield=True):
                await trio.Event().wait()

    with pytest.RaisesGroup(StuckError) as caught:
        simulate(body, seed=1, time_limit=60)
    assert "660.000 virtual seconds" in caught.value.__notes__[0]


def fail() -> None:
    """What a test's own action may do."""
    raise ZeroDivisionError


def test_a_rule_that_fails_fails_the_simulation() -> None:
    """With its own error, which no sender sees: what handles the errors of sockets would make one of those of it."""
    seen: list[Exception] = []

    async def body(network: SimNetwork) -> None:
        network.rules.append(lambda packet: fail())
        network.host("somebody", "10.0.0.2")
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            try:
                await sock.sendto(b"hello", ("10.0.0.2", 1))
            except Exception as error:  # noqa: BLE001 - as the product may
                seen.append(error)
        await trio.sleep_forever()

    with pytest.raises(ZeroDivisionError):
        simulate(body, seed=1)
    assert seen == []


def test_an_action_that_fails_fails_a_simulation_that_cannot_be_cancelled() -> None:
    """Also where the body returns as if nothing had been."""

    async def body(network: SimNetwork) -> str:
        network.at(1.0, fail)
        with trio.CancelScope(shield=True):
            await trio.sleep(2.0)
        return "fine"

    with pytest.raises(ZeroDivisionError) as caught:
        simulate(body, seed=1)
    assert "2.000 virtual seconds" in caught.value.__notes__[0]


def test_an_action_that_fails_is_told_before_what_the_body_raises_then() -> None:
    """The body's own error may be a consequence, and is chained to it."""

    async def body(network: SimNetwork) -> None:
        network.at(1.0, fail)
        with trio.CancelScope(shield=True):
            await trio.sleep(2.0)
        raise ValueError("oops")

    with pytest.raises(ZeroDivisionError) as caught:
        simulate(body, seed=1)
    assert repr(caught.value.__cause__) == "ValueError('oops')"


def test_generators_are_independent_and_repeat() -> None:
    """What one part draws does not move another's."""

    async def body(network: SimNetwork) -> list[float]:
        if network.seed == 1:
            network.random("other").random()
        return [network.random("g1").random(), network.random("g2").random()]

    first, again, other = (simulate(body, seed=seed).value for seed in (1, 1, 2))
    assert first == again
    assert len({*first, *other}) == 4


def test_one_simulation_does_not_see_another() -> None:
    """Sockets of the real system are back afterwards."""

    async def body(network: SimNetwork) -> None:
        network.host("somebody")

    async def real() -> None:
        with trio.socket.socket() as sock:
            assert type(sock).__name__ == "_SocketType"
            await trio.lowlevel.checkpoint()

    simulate(body, seed=1)
    trio.run(real)
