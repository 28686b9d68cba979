"""Child processes that run ``trio-gw`` commands and cannot outlive us.

The rule: a child is one task. :func:`run_child` is started with ``await nursery.start(run_child, name, arguments)``,
reports the child as started once it has printed its ready line, and ends when the child has ended; cancelling it ends
the child. So a child lives exactly as long as its nursery wants it, and no list of processes is kept anywhere.

That covers every way of leaving that runs Python code. For the others (SIGKILL, a crash of the interpreter) the child
is on a leash: see :mod:`inferencegw.cli._leash`, and there for the limit: a child that somebody has stopped.

Each child is a process group of its own, so that Ctrl-C reaches us alone and we decide what ends in which order.
"""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs
import trio

from inferencegw.errors import InferenceGatewayError
from inferencegw.settings.options import CONFIG_VARIABLE

__all__ = ["Child", "ChildError", "parse_ready_line", "run_child"]

GRACE: Final = 1.0
"""Seconds from SIGTERM to SIGKILL. High: a stuck child delays the end. Low: a loaded machine's children are killed
before they could say goodbye, which costs nothing but their last log lines."""

MAX_LINE_BYTES: Final = 65_536
"""Longest line kept of a child's output. High: memory. Low: long addresses or error messages are cut."""

LAST_WORDS: Final = 20
"""Lines of a child's log that are kept to say why it failed. High: memory. Low: the cause may have scrolled away."""


class ChildError(InferenceGatewayError):
    """The child's: it ended before it was ready; nothing of it is left. The message has its last words."""


@attrs.frozen(eq=False)
class Child:
    """A child that is ready to serve."""

    name: str
    process: trio.Process
    addresses: Mapping[str, str]
    """What its ready line said, e.g. ``{"grpc": "127.0.0.1:50051"}``."""

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def kill(self) -> None:
        """``kill -9``: the child gets no chance to say anything."""
        self.process.kill()


def parse_ready_line(line: str) -> dict[str, str]:
    """``ready grpc=127.0.0.1:8080`` -> ``{"grpc": "127.0.0.1:8080"}``; empty for any other line."""
    word, *pairs = line.split() or [""]
    addresses = {name: address for name, _, address in (pair.partition("=") for pair in pairs)}
    return addresses if word == "ready" and all(addresses) and all(addresses.values()) else {}


async def run_child(
    name: str,
    arguments: Sequence[str],
    *,
    listen: Callable[[str], object] | None = None,
    task_status: trio.TaskStatus[Child] = trio.TASK_STATUS_IGNORED,
) -> int:
    """Run ``trio-gw ARGUMENTS`` until it ends, or until cancelled; its exit status. ``listen`` is called with each line
    of its log.

    Raises:
        ChildError: it ended before it was ready; the message has its last words.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "inferencegw.cli._leash", *arguments],
        stdin=subprocess.PIPE,  # the leash
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        # The file that it names is for one kind of server; a child is told of its own by a flag.
        env={name: value for name, value in os.environ.items() if name != CONFIG_VARIABLE},
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: PT018
    said: deque[str] = deque(maxlen=LAST_WORDS)

    def hear(line: str) -> None:
        said.append(line)
        if listen is not None:
            listen(line)

    async with process.stdin, process.stdout, process.stderr:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hear_lines, process.stderr, hear)
                addresses = parse_ready_line(await _read_line(process.stdout))
                if addresses:
                    task_status.started(Child(name, process, addresses))
                else:
                    process.terminate()
                status = await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await _end(process)
    if not addresses:
        raise ChildError(f"{name} ended with status {status} before it was ready: {said[-1] if said else 'no word'}")
    return status


async def _end(process: trio.Process) -> None:
    """SIGTERM, and SIGKILL if that is not enough; neither reaches a child that has ended. Returns when it has."""
    process.terminate()
    with trio.move_on_after(GRACE):
        await process.wait()
    process.kill()
    await process.wait()


async def _read_line(stream: trio.abc.ReceiveStream) -> str:
    """The first line of ``stream``, without its newline; what there was if it ends or runs too long."""
    received = bytearray()
    while True:
        chunk = await stream.receive_some()
        received += chunk
        if not chunk or b"\n" in chunk or len(received) > MAX_LINE_BYTES:
            return received.partition(b"\n")[0].decode(errors="replace")


async def _hear_lines(stream: trio.abc.ReceiveStream, hear: Callable[[str], object]) -> None:
    """Read ``stream`` to its end, so that its writer never has to wait, and pass each line on."""
    partial_line = b""
    async for chunk in stream:
        *whole, partial_line = (partial_line + chunk).split(b"\n")
        for line in whole:
            hear(line.decode(errors="replace"))
        partial_line = partial_line[-MAX_LINE_BYTES:]
    if partial_line:
        hear(partial_line.decode(errors="replace"))
