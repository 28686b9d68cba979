"""What the demo tells: events in, lines and decisions out. Pure.

The rule: the story knows no process, terminal or clock. The demo hands it everything that happened, in order; it
answers with the lines a reader without a terminal sees, keeps what the panels of :mod:`inferencegw.cli._screen` draw,
decides which replica to kill and when, and says at the end whether everything went as it should today: a replica was
killed, and every stream OK but those of that replica, each of which ended with an error that says honestly how far it
got.
"""

from collections import Counter
from typing import Final, TypeAlias, assert_never

import attrs

from inferencegw.errors import StatusCode

__all__ = [
    "Event",
    "ProcessReady",
    "PromptSent",
    "ReplicaKilled",
    "Story",
    "Stream",
    "StreamEnded",
    "TokenArrived",
]

KILL_AT_TOKENS: Final = 8
"""Every open stream has this many tokens when a replica is killed. High: a longer demo. Low: nothing to see before."""

TOKENS_PER_LINE: Final = 12
"""Tokens of one stream gathered into one plain line. High: nothing moves. Low: the lines of eight streams fly by."""


@attrs.frozen
class ProcessReady:
    name: str
    pid: int
    address: str


@attrs.frozen
class PromptSent:
    stream: int
    prompt: str


@attrs.frozen
class TokenArrived:
    stream: int
    text: str
    replica_id: str


@attrs.frozen
class StreamEnded:
    """The stream has its final status; ``delivered`` is what the gateway's trailers say was delivered."""

    stream: int
    status: StatusCode
    message: str = ""
    delivered: int | None = None


@attrs.frozen
class ReplicaKilled:
    name: str
    pid: int


Event: TypeAlias = ProcessReady | PromptSent | TokenArrived | StreamEnded | ReplicaKilled


@attrs.define
class Stream:
    """One prompt and what has come back."""

    number: int
    prompt: str
    replica_id: str = ""
    tokens: int = 0
    text: str = ""
    told: int = 0
    """How much of ``text`` the plain lines have shown."""
    status: StatusCode | None = None
    """None while it streams."""
    message: str = ""
    delivered: int | None = None

    @property
    def outcome(self) -> str:
        """How it stands, in a word or two."""
        if self.status is None:
            return "streaming" if self.tokens else "waiting"
        return self.status.name

    def take_untold(self) -> str:
        """The text that no plain line has shown yet; it counts as shown from now on."""
        untold, self.told = self.text[self.told :], len(self.text)
        return untold


@attrs.define
class Story:
    """The demo so far."""

    first_act: int
    """Prompts that are sent before the kill. One sent just after it could still meet the dead replica and fail."""
    processes: dict[str, ProcessReady] = attrs.field(factory=dict)
    streams: dict[int, Stream] = attrs.field(factory=dict)
    killed: str | None = None

    def handle(self, event: Event) -> list[str]:
        """Take one event in; the plain lines it is worth."""
        match event:
            case ProcessReady(name, pid, address):
                self.processes[name] = event
                return [f"{name} is ready on {address} (pid {pid})"]
            case PromptSent(number, prompt):
                self.streams[number] = Stream(number, prompt)
                return [f"prompt {number}: {prompt}"]
            case TokenArrived():
                return self._handle_token(event)
            case StreamEnded():
                return self._handle_end(event)
            case ReplicaKilled(name, pid):
                self.killed = name
                return [f"kill -9 {pid}: replica {name} is gone, in the middle of its streams"]
            case _:
                assert_never(event)

    def _handle_token(self, event: TokenArrived) -> list[str]:
        stream = self.streams[event.stream]
        stream.replica_id = event.replica_id
        stream.tokens += 1
        stream.text += event.text
        if stream.tokens % TOKENS_PER_LINE:
            return []
        return [f"prompt {stream.number} <- {stream.replica_id}: {one_line(stream.take_untold())}"]

    def _handle_end(self, event: StreamEnded) -> list[str]:
        stream = self.streams[event.stream]
        stream.status, stream.message, stream.delivered = event.status, event.message, event.delivered
        rest = one_line(stream.take_untold())
        lines = [f"prompt {stream.number} <- {stream.replica_id}: {rest}"] if rest else []
        why = "" if event.status is StatusCode.OK else f" ({one_line(event.message)})"
        return [*lines, f"prompt {stream.number} ended {event.status.name} after {stream.tokens} tokens{why}"]

    def next_victim(self) -> str | None:
        """The replica to kill now, if now is the time: the busiest, once every stream of the first act is under way."""
        if self.killed is not None or len(self.streams) != self.first_act:
            return None
        open_streams = [stream for stream in self.streams.values() if stream.status is None]
        if not open_streams or min(stream.tokens for stream in open_streams) < KILL_AT_TOKENS:
            return None
        served = Counter(stream.replica_id for stream in open_streams)
        return min(served, key=lambda name: (-served[name], name))

    def surprises(self) -> list[str]:
        """What did not go as it should; empty after a good demo."""
        found = [] if self.killed is not None else ["no replica was killed: the streams ended before any could be"]
        for stream in self.streams.values():
            if stream.status is None:
                found.append(f"prompt {stream.number} has no final status")
            elif stream.status is not StatusCode.OK and stream.replica_id != self.killed:
                found.append(f"prompt {stream.number} failed though its replica was not killed: {stream.message}")
            elif stream.delivered != stream.tokens:
                found.append(f"prompt {stream.number} got {stream.tokens} tokens, the gateway says {stream.delivered}")
        return found

    def summary(self) -> list[str]:
        """The closing lines, the same with and without a terminal."""
        ok = [stream for stream in self.streams.values() if stream.status is StatusCode.OK]
        failed = [stream for stream in self.streams.values() if stream.status not in (StatusCode.OK, None)]
        served = Counter(stream.replica_id for stream in self.streams.values() if stream.replica_id)
        shares = (f"{name} {n}{' (killed)' if name == self.killed else ''}" for name, n in sorted(served.items()))
        return [
            f"streams: {len(self.streams)}, {len(ok)} OK, {len(failed)} failed",
            *(
                f"  prompt {stream.number}: {stream.outcome} after {stream.tokens} tokens"
                f" (the gateway says {stream.delivered} delivered)"
                for stream in failed
            ),
            f"tokens: {sum(stream.tokens for stream in self.streams.values())}",
            f"served by: {', '.join(shares)}",
            *(f"unexpected: {surprise}" for surprise in self.surprises()),
        ]


def one_line(text: str) -> str:
    """``text`` fit for one line of a terminal: whatever is not printable becomes a space."""
    return "".join(character if character.isprintable() else " " for character in text).strip()
