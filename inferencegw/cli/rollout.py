"""``trio-gw rollout``: bring replicas to another version, one at a time, and lose no call.

The rule: the gateway does it, this command asks and shows. So what happens to this process changes nothing that cannot
be undone: the first Ctrl-C asks for a pause and waits for it, a second one leaves, and whoever leaves in any way makes
the gateway pause, too, once the replica in hand is back.
"""

import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

import attrs
import trio
from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import Gateway, admin_method, name_of, plain, print_json, reach
from inferencegw.cli._exit import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_PAUSED
from inferencegw.cli._integer import INTEGER
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.errors import ConfigError
from inferencegw.v1 import admin_pb2

ROLLOUT: Final = admin_method("Rollout")
PAUSE: Final = admin_method("PauseRollout")

Tell: TypeAlias = Callable[[admin_pb2.RolloutResponse], None]

LONGEST_STEP: Final = 3600.0 + 660.0
"""Seconds without a step that are too many: the longest drain's, and a manager's that does not do as it is told. High:
a gateway that hangs is waited for; one that is gone, the connection notices. Low: a long drain seems to hang."""

WORDS: Final = {
    admin_pb2.ROLLOUT_PHASE_CHECK: "looks whether the others can do without one",
    admin_pb2.ROLLOUT_PHASE_CORDON: "gets no new calls",
    admin_pb2.ROLLOUT_PHASE_DRAIN: "finishes its calls, or hands them over",
    admin_pb2.ROLLOUT_PHASE_RELEASE: "gets calls again",
    admin_pb2.ROLLOUT_PHASE_STOP: "is stopped",
    admin_pb2.ROLLOUT_PHASE_START: "is started",
    admin_pb2.ROLLOUT_PHASE_REJOIN: "has to come back",
    admin_pb2.ROLLOUT_PHASE_CANARY: "has to pass its canary",
    admin_pb2.ROLLOUT_PHASE_SHUN: "is kept away from calls",
    admin_pb2.ROLLOUT_PHASE_WARM_UP: "warms up",
    admin_pb2.ROLLOUT_PHASE_REPLICA_DONE: "is done",
    admin_pb2.ROLLOUT_PHASE_FINISHED: "finished",
    admin_pb2.ROLLOUT_PHASE_STOPPED: "halted",
    admin_pb2.ROLLOUT_PHASE_PAUSED: "paused",
}


def rollout(  # noqa: PLR0913 one parameter for each flag
    *,
    version: Annotated[
        str,
        Parameter(help="Version to bring replicas to. --resume and --rollback find it where gateways remember it."),
    ] = "",
    replica: Annotated[tuple[str, ...], Parameter(help="Only this one; may be repeated.", negative=())] = (),
    manager: Annotated[
        str,
        Parameter(
            help="HOST:PORT, on the gateway's machine, of who stops and starts replicas, as `cluster up` is one; else "
            "the gateway's own."
        ),
    ] = "",
    max_unavailable: Annotated[
        int, Parameter.combine(INTEGER, Parameter(help="Replicas that may be out at a time: 1 is all there is."))
    ] = 1,
    drain_timeout: Annotated[
        float | None,
        Parameter(
            help="Seconds for running generations; 30, or what the one to resume had. High: slow rollouts. Low: more "
            "of them are handed over."
        ),
    ] = None,
    rejoin_timeout: Annotated[
        float | None,
        Parameter(
            help="Seconds for a replica to come back; 10, or likewise. High: a failure is noticed late. Low: large "
            "models seem one."
        ),
    ] = None,
    pause_after: Annotated[
        int, Parameter.combine(INTEGER, Parameter(help="Pause when so many are done, to look at them. 0: never."))
    ] = 0,
    resume: Annotated[
        bool, Parameter(help="Go on with one that has stopped, wherever it ran: begin with what is out.", negative=())
    ] = False,
    rollback: Annotated[
        bool, Parameter(help="Undo one that has stopped: give every replica its old version back.", negative=())
    ] = False,
    dry_run: Annotated[bool, Parameter(help="Only tell what would be done.", negative=())] = False,
    gateway: Gateway = DEFAULT_GATEWAY,
    access: Access = NOBODY,
    as_json: Annotated[
        bool, Parameter(name="--json", help="Print one JSON object a line for each step.", negative=())
    ] = False,
) -> int:
    """Bring replicas to another version, one at a time, without losing a call.

    Each gets no new calls, finishes those it has or hands them over, is stopped, started with the new version, and has
    to come back and to pass a canary generation before the next one is begun. It refuses to begin where the others
    could not carry the load, and waits while another replica is not there. It ends with a receipt: how many calls there
    were, how many of them failed, how many were handed over.

    Ctrl-C pauses: the replica in hand is brought back first; a second one leaves, and the gateway pauses all the same.
    What has stopped can be resumed, here or at another gateway, or rolled back; a gateway that was given a
    ``--state-dir`` remembers what was asked for, and begins none over one that has stopped.

    The keys of each line with ``--json``: ``phase``, ``replica_id``, ``done``, ``total`` (replicas), ``message`` and,
    with the last one, ``receipt``: ``requests``, ``dropped``, ``handed_over``, ``running``, ``seconds``, ``gateways``
    and ``unasked``.

    Example: ``trio-gw rollout --version v2 --manager 127.0.0.1:40000``

    Exit status: 0 if all replicas are done, or as many as ``--pause-after`` says; 1 if it was refused or has halted, or
    the gateway did not answer; 2 if an option cannot be used; 3 if it has paused before that, because its gateway is
    told to leave or cannot write its file, or somebody else has asked for it; 130 after Ctrl-C, paused or left.
    """
    if not version and not (resume or rollback):
        raise ConfigError("version = '': must be given, but for --resume and --rollback")
    request = admin_pb2.RolloutRequest(
        model_version=version,
        replica_ids=replica,
        resume=resume,
        rollback=rollback,
        dry_run=dry_run,
        max_unavailable=_count("max_unavailable", max_unavailable),
        drain_timeout=drain_timeout,
        rejoin_timeout=rejoin_timeout,
        pause_after=_count("pause_after", pause_after),
        manager=manager,
    )
    with _shown(as_json=as_json) as (tell, say):
        outcome = trio.run(_follow, gateway, access, request, tell, say)
    return outcome.status


@attrs.define
class Outcome:
    """What has been seen of it.

    Attributes:
        pause_after: when so many replicas are done, a pause is what was asked for; 0 for never.
        last: its last step.
        interrupted: how often Ctrl-C was.
    """

    pause_after: int = 0
    last: admin_pb2.RolloutResponse | None = None
    interrupted: int = 0

    @property
    def status(self) -> int:
        """What the command ends with: how the rollout stands, if that was told; else who has left it."""
        phase, done = (None, 0) if self.last is None else (self.last.phase, self.last.done)
        paused = phase == admin_pb2.ROLLOUT_PHASE_PAUSED
        if phase == admin_pb2.ROLLOUT_PHASE_FINISHED or (paused and 0 < self.pause_after <= done):
            return EXIT_OK
        if phase == admin_pb2.ROLLOUT_PHASE_STOPPED or not (paused or self.interrupted):
            return EXIT_FAILED
        return EXIT_INTERRUPTED if self.interrupted else EXIT_PAUSED


async def _follow(
    gateway: str, access: Access, request: admin_pb2.RolloutRequest, tell: Tell, say: Callable[[str], None]
) -> Outcome:
    """Ask for it, and tell each step to the end."""
    outcome = Outcome(request.pause_after)
    async with reach(gateway, access) as (channel, patience), trio.open_nursery() as nursery:
        # Signals are the main thread's; in another one nobody can send us any.
        if threading.current_thread() is threading.main_thread():
            pause = partial(channel.unary, PAUSE, admin_pb2.PauseRolloutRequest())
            await nursery.start(_obey_interrupts, outcome, pause, say, nursery)
        async with channel.open_stream(ROLLOUT, request) as steps:
            async for step in steps:
                patience.deadline = trio.current_time() + LONGEST_STEP
                outcome.last = step
                tell(step)
        nursery.cancel_scope.cancel()
    return outcome


async def _obey_interrupts(
    outcome: Outcome,
    pause: Callable[[], Awaitable[object]],
    say: Callable[[str], None],
    everything: trio.Nursery,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """The first Ctrl-C pauses, the second one leaves, whether the gateway has answered the first or not."""
    with trio.open_signal_receiver(signal.SIGINT) as interrupts:
        task_status.started()
        async for _ in interrupts:
            outcome.interrupted += 1
            if outcome.interrupted > 1:
                break
            say("pausing: the replica in hand is brought back first; Ctrl-C again leaves")
            everything.start_soon(pause)
    everything.cancel_scope.cancel()


def _count(name: str, value: int) -> int:
    if not 0 <= value <= 1_000_000:
        raise ConfigError(f"{name} = {value}: must be from 0 to 1000000 (replicas)")
    return value


# -- showing ----------------------------------------------------------------------------------------------------------


@contextmanager
def _shown(*, as_json: bool) -> Iterator[tuple[Tell, Callable[[str], None]]]:
    """What shows a step, and what says something else: a bar on a terminal, lines elsewhere, or JSON."""
    if as_json:
        yield lambda step: print_json(facts_of(step), one_line=True), lambda _: None
        return
    if not sys.stdout.isatty():
        yield lambda step: print(*lines_of(step), sep="\n", flush=True), lambda line: print(line, flush=True)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns) as progress:
        task = progress.add_task("begins", total=None)

        def tell(step: admin_pb2.RolloutResponse) -> None:
            line, *more = lines_of(step)
            words = line.partition("  ")[2]  # the bar has the numbers already
            progress.update(task, completed=step.done, total=step.total, description=plain(words).markup)
            if step.phase in _LASTING:
                progress.console.print(*map(plain, [line, *more]), sep="\n")

        yield tell, progress.console.print


_LASTING: Final = {
    admin_pb2.ROLLOUT_PHASE_REPLICA_DONE,
    admin_pb2.ROLLOUT_PHASE_FINISHED,
    admin_pb2.ROLLOUT_PHASE_STOPPED,
    admin_pb2.ROLLOUT_PHASE_PAUSED,
}
"""What stays on a terminal, above the bar."""


def lines_of(step: admin_pb2.RolloutResponse) -> list[str]:
    """What people get: a line for the step and, with the last one, the receipt and what can be done."""
    words = WORDS.get(step.phase, str(step.phase))
    message = f": {step.message}" if step.message else ""
    who = f"{step.replica_id} " if step.replica_id else ""
    lines = [f"{step.done}/{step.total}  {who}{words}{message}"]
    if step.HasField("receipt"):
        lines.extend(_receipt(step.receipt))
    if step.phase in {admin_pb2.ROLLOUT_PHASE_STOPPED, admin_pb2.ROLLOUT_PHASE_PAUSED}:
        lines.append("go on with --resume, or go back with --rollback")
    return [plain(line).plain for line in lines]


def _receipt(receipt: admin_pb2.RolloutReceipt) -> Iterator[str]:
    running = f" ({receipt.requests_running} still run)" if receipt.requests_running else ""
    yield (
        f"receipt: {receipt.requests_total} requests seen{running}, dropped {receipt.requests_dropped}, "
        f"handed over {receipt.requests_handed_over}, in {receipt.duration:.1f} s; "
        f"counted by {', '.join(receipt.gateways) or 'nobody'}"
    )
    for problem in receipt.unasked:
        yield f"not all of it: {problem}"


def facts_of(step: admin_pb2.RolloutResponse) -> dict[str, Any]:
    """What scripts get."""
    facts: dict[str, Any] = {
        "phase": name_of(admin_pb2.RolloutPhase, step.phase, "ROLLOUT_PHASE_").lower(),
        "replica_id": step.replica_id,
        "done": step.done,
        "total": step.total,
        "message": step.message,
    }
    if step.HasField("receipt"):
        facts["receipt"] = {
            "requests": step.receipt.requests_total,
            "dropped": step.receipt.requests_dropped,
            "handed_over": step.receipt.requests_handed_over,
            "running": step.receipt.requests_running,
            "seconds": round(step.receipt.duration, 3),
            "gateways": list(step.receipt.gateways),
            "unasked": list(step.receipt.unasked),
        }
    return facts
