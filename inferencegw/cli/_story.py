"""What the demo tells: events in, lines and decisions out. Pure.

The rule: the story knows no process, terminal or clock. The demo hands it everything that happened, in order; it
answers with the lines a reader without a terminal sees, keeps what the panels of :mod:`inferencegw.cli._screen` draw,
decides which replica to kill and when, and says at the end whether everything went as it should today: every replica
was found by the gossip, one was killed, declared DEAD, started again, found again and answered again; and every stream
was OK but those that the killed one had, each of which ended with an error that says honestly how far it got.
"""

from collections import Counter
from collections.abc import Collection
from typing import Final, TypeAlias, assert_never

import attrs

from inferencegw.cli._rollcall import MembersSeen, ReplicaKilled, ReplicaRestarted, RollCall
from inferencegw.errors import StatusCode

__all__ = ["Event", "ProcessReady", "PromptSent", "Story", "Stream", "StreamEnded", "TokenArrived", "one_line"]

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


Event: TypeAlias = (
    ProcessReady | PromptSent | TokenArrived | StreamEnded | MembersSeen | ReplicaKilled | ReplicaRestarted
)


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
    lost: bool = False
    """Whether its replica was killed while it streamed."""

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

    replicas: Collection[str]
    first_act: int
    """Prompts that are sent before the kill. One sent just after it could still meet the dead replica and fail."""
    profile: str
    """Of the gossip, which is as quick as that says."""
    roll: RollCall = attrs.field(default=attrs.Factory(lambda self: RollCall(self.replicas), takes_self=True))
    streams: dict[int, Stream] = attrs.field(factory=dict)
    news: str = attrs.field()
    """The last line that was not about a prompt."""
    sent_before_return: int | None = None
    """Prompts that had been sent when the killed replica was back."""

    @news.default
    def _opening(self) -> str:
        return f"starting; the gossip's profile is {self.profile}, for loopback"

    # -- events -----------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[str]:
        """Take one event in; the plain lines it is worth."""
        match event:
            case PromptSent(number, prompt):
                self.streams[number] = Stream(number, prompt)
                return [f"prompt {number}: {prompt}"]
            case TokenArrived():
                return self._handle_token(event)
            case StreamEnded():
                return self._handle_end(event)
            case ProcessReady() | MembersSeen() | ReplicaKilled() | ReplicaRestarted():
                lines = list(map(one_line, self._handle_cluster(event)))
                self.news = lines[-1] if lines else self.news
                return lines
            case _:
                assert_never(event)

    def _handle_cluster(self, event: ProcessReady | MembersSeen | ReplicaKilled | ReplicaRestarted) -> list[str]:
        match event:
            case ProcessReady(name, pid, address):
                return [f"{name} is ready on {address} (pid {pid})"]
            case MembersSeen(members):
                lines = self.roll.handle_look(members)
                if self.sent_before_return is None and self.roll.is_back:
                    self.sent_before_return = len(self.streams)
                return lines
            case ReplicaKilled(name):
                for stream in self.streams.values():
                    stream.lost = stream.status is None and stream.replica_id == name
                return self.roll.handle_kill(event)
            case ReplicaRestarted():
                return self.roll.handle_restart(event)
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

    # -- what the demo waits for ------------------------------------------------------------------------------------

    @property
    def are_all_found(self) -> bool:
        """Whether the show can begin: the gossip has found every replica, and the gateway is connected to it."""
        return self.roll.are_found(self.replicas)

    @property
    def victim(self) -> str | None:
        """The replica to kill now, if now is the time: the busiest, once every stream of the first act is under way."""
        if self.roll.killed is not None or len(self.streams) != self.first_act:
            return None
        open_streams = [stream for stream in self.streams.values() if stream.status is None]
        if not open_streams or min(stream.tokens for stream in open_streams) < KILL_AT_TOKENS:
            return None
        served = Counter(stream.replica_id for stream in open_streams)
        return min(served, key=lambda name: (-served[name], name))

    @property
    def is_quiet(self) -> bool:
        """Whether no stream is open."""
        return all(stream.status is not None for stream in self.streams.values())

    # -- the end ----------------------------------------------------------------------------------------------------

    def surprises(self) -> list[str]:
        """What did not go as it should; empty after a good demo."""
        missed = self._missed()
        found = [*([missed] if missed else []), *self.roll.mistakes]
        for stream in self.streams.values():
            if stream.status is None:
                found.append(f"prompt {stream.number} has no final status")
            elif stream.status is not StatusCode.OK and not stream.lost:
                found.append(f"prompt {stream.number} failed though its replica was not killed: {stream.message}")
            elif stream.delivered != stream.tokens:
                found.append(f"prompt {stream.number} got {stream.tokens} tokens, the gateway says {stream.delivered}")
        return found

    def _missed(self) -> str | None:
        """The first thing that was to be seen and was not: without it, nothing after it could be."""
        roll = self.roll
        if roll.killed is None:
            if not self.streams:
                absent = [name for name in self.replicas if not roll.are_found([name])]
                return f"the gateway is not connected to {', '.join(absent)} as a living member"
            return "no replica was killed: the streams ended before any could be"
        name = roll.killed.name
        if not roll.is_declared_dead:
            return f"{name} was killed, and the gossip has not declared it DEAD"
        if self.sent_before_return is None:
            return f"{name} was started again, and the gateway is not connected to it as a living member"
        if not self._served_by(name)[1]:
            return f"{name} is back, and has answered nothing since"
        return None

    def summary(self) -> list[str]:
        """The closing lines, the same with and without a terminal."""
        ok = [stream for stream in self.streams.values() if stream.status is StatusCode.OK]
        failed = [stream for stream in self.streams.values() if stream.status not in (StatusCode.OK, None)]
        served = sorted({stream.replica_id for stream in self.streams.values()} - {""})
        return [
            f"streams: {len(self.streams)}, {len(ok)} OK, {len(failed)} failed",
            *(
                f"  prompt {stream.number}: {stream.outcome} after {stream.tokens} tokens"
                f" (the gateway says {stream.delivered} delivered)"
                for stream in failed
            ),
            f"tokens: {sum(stream.tokens for stream in self.streams.values())}",
            f"served by: {', '.join(map(self._share, served))}",
            *(f"gossip (profile {self.profile}): {line}" for line in self.roll.summary()),
            *(f"unexpected: {surprise}" for surprise in self.surprises()),
        ]

    def _share(self, name: str) -> str:
        before, after = self._served_by(name)
        if self.roll.killed is None or name != self.roll.killed.name:
            return f"{name} {before + after}"
        return f"{name} {before} (killed)" + (f" and {after} (back)" if after else "")

    def _served_by(self, name: str) -> tuple[int, int]:
        """The streams of a replica: those sent before the killed one was back, and those sent after."""
        numbers = [stream.number for stream in self.streams.values() if stream.replica_id == name]
        turn = len(self.streams) if self.sent_before_return is None else self.sent_before_return
        before = sum(number <= turn for number in numbers)
        return before, len(numbers) - before


def one_line(text: str) -> str:
    """``text`` fit for one line of a terminal: whatever is not printable becomes a space."""
    return "".join(character if character.isprintable() else " " for character in text).strip()
