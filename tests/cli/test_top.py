"""``trio-gw top``: rates are of what came between two looks; whatever there is fits a terminal."""

import pytest
import trio
from rich.console import Console

from inferencegw.cli import _admin, top
from inferencegw.cli.app import execute
from inferencegw.cli.top import BAR, View, bar, curve
from inferencegw.v1 import admin_pb2
from tests.cli.conftest import Command
from tests.cli.support import Result, a_cluster, a_replica


def look(uptime: float, tokens: int = 0, **fields: object) -> admin_pb2.GatewayStatus:
    """A gateway at one moment."""
    counts = admin_pb2.GatewayCounts(tokens=tokens, first_tokens=tokens // 10, first_token_seconds=tokens / 50)
    return admin_pb2.GatewayStatus(gateway_id="g1", version="1", uptime=uptime, counts=counts, **fields)  # type: ignore[arg-type]


def seen(*looks: admin_pb2.GatewayStatus) -> list[str]:
    """The lines of what is drawn after these."""
    view = View()
    for one in looks:
        view.note(one)
    console = Console(width=100, record=True, force_terminal=False)
    with console.capture() as captured:
        console.print(view.drawn())
    return [line.rstrip() for line in captured.get().splitlines()]


def line(lines: list[str], begin: str) -> list[str]:
    """The words of the line that begins so, after that."""
    [found] = [one for one in lines if one.startswith(begin)]
    return found.removeprefix(begin).split()


def test_a_rate_is_of_the_last_seconds_and_its_curve_of_each() -> None:
    """100 tokens a second at first, then 20, for longer than the rate looks back."""
    counts = [0, 100, 200, *range(220, 420, 20)]
    lines = seen(*(look(float(second), count) for second, count in enumerate(counts)))
    assert line(lines, "tokens a second") == ["20", "██" + "▂" * 10]


def test_first_tokens_are_of_the_calls_that_lately_had_one() -> None:
    """And of all where none had; none at all is a dash."""
    assert "first token -" in seen(look(0.0))[1]
    assert "first token 200 ms" in seen(look(0.0), look(1.0, 100))[1]
    assert "first token 200 ms" in seen(look(0.0, 100), look(1.0, 100))[1]


def test_a_gateway_that_was_started_again_has_no_rate_yet() -> None:
    """Its counts began anew: a difference would be negative."""
    assert line(seen(look(90.0, 5000), look(1.0, 10)), "tokens a second") == ["0"]


@pytest.mark.parametrize(
    ("inflight", "load", "capacity", "drawn"),
    [
        (0, 0, 4, "░" * BAR),
        (4, 4, 4, "█" * BAR),
        (1, 2, 4, "█" * 5 + "▒" * 5 + "░" * 10),
        (9, 9, 4, "█" * BAR),
        (0, 0, 0, "░" * BAR),
    ],
)
def test_a_bar_is_always_as_wide(inflight: int, load: int, capacity: int, drawn: str) -> None:
    """What this gateway holds, what others do, what is free; more than there is is full."""
    assert bar(inflight, load, capacity).plain == drawn


def test_a_curve_has_a_letter_for_each_value() -> None:
    """The highest is full; where all is 0 nothing is."""
    assert (curve([]), curve([0, 0]), curve([0, 7, 3.5])) == ("", "▁▁", "▁█▅")


def test_names_from_the_network_do_not_steer_the_terminal() -> None:
    """They are written as escapes."""
    replica = admin_pb2.ReplicaStatus(replica_id="r\x1b[2J", connected=True, max_capacity=4)
    assert not any("\x1b" in one for one in seen(look(0.0, replicas=[replica])))


async def test_who_looks_sees_the_gateway_drain_to_its_end(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal one picture under the other; the exit status says that it is over."""
    results: list[Result] = []
    async with a_cluster(a_replica("r1")) as cluster, trio.open_nursery() as nursery:
        first, loop = trio.Event(), trio.lowlevel.current_trio_token()
        drawn = View.drawn

        def draw_and_tell(view: View) -> object:
            loop.run_sync_soon(first.set)
            return drawn(view)

        async def watch() -> None:
            results.append(await command("top", "--gateway", cluster.address, "--interval", "0.1"))

        monkeypatch.setattr(top.View, "drawn", draw_and_tell)
        nursery.start_soon(watch)
        await first.wait()
        cluster.gateway.drain()
    [result] = results
    assert result.out.startswith("gw  version ")
    assert " r1 " in f" {result.out} ".replace("\n", " ")
    assert (result.status, result.err) == (1, "trio-gw: error: UNAVAILABLE: the gateway has drained\n")
    assert max(map(len, result.out.splitlines())) <= _admin.WIDE


def test_an_interval_that_the_gateway_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """And so is one that is no number."""
    assert execute(["top", "--gateway", "127.0.0.1:1", "--interval", "often"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
