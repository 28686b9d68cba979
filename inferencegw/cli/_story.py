"""What the demo tells: events in, lines and decisions out. Pure.

The rule: the story knows no process, terminal or clock. The demo hands it everything that happened, in order; it
answers with the lines a reader without a terminal sees, keeps what the panels of :mod:`inferencegw.cli._screen` draw,
decides which replica to kill and when, and says at the end whether everything went as it should: every replica was
found by the gossip, one was killed, declared DEAD, started again, found again and answered again; a slow one lost a
race, and the breaker of one that refused opened and closed again; and every stream ended OK, those of the killed one
too, which went on at another replica with the very next token.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, TypeAlias, assert_never

import attrs

from inferencegw.cli._rollcall import MembersSeen, ReplicaKilled, ReplicaRestarted, RollCall
from inferencegw.cli._trials import FaultsCleared, RaceRun, RejectOrdered, SlowOrdered, Trials
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
    index: int
    text: str
    replica_id: str


@attrs.frozen
class StreamEnded:
    """The stream has its final status; the gateway's trailers say what was delivered, and where it changed replica."""

    stream: int
    status: StatusCode
    message: str = ""
    delivered: int | None = None
    splices: str = ""


TrialEvent: TypeAlias = SlowOrdered | RaceRun | RejectOrdered | FaultsCleared
ClusterEvent: TypeAlias = ProcessReady | MembersSeen | ReplicaKilled | ReplicaRestarted
Event: TypeAlias = PromptSent | TokenArrived | StreamEnded | ClusterEvent | TrialEvent


@attrs.frozen
class Move:
    """From token ``index`` on, ``to`` generates in place of ``origin``."""

    index: int
    origin: str
    to: str

    def __str__(self) -> str:
        """As in the trailers (``gw-splices``)."""
        return f"{self.index}:{self.origin}>{self.to}"


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
    splices: str = ""
    moves: list[Move] = attrs.field(factory=list)
    astray: int = 0
    """Tokens that were not the next one: something before them is lost, or they came twice."""

    @property
    def outcome(self) -> str:
        """How it stands, in a word or two."""
        if self.status is None:
            return "streaming" if self.tokens else "waiting"
        return self.status.name

    @property
    def replicas(self) -> list[str]:
        """Those that had a part in it, in order."""
        return [*(move.origin for move in self.moves), *([self.replica_id] if self.replica_id else [])]

    def take_untold(self) -> str:
        """The text that no plain line has shown yet; it counts as shown from now on."""
        untold, self.told = self.text[self.told :], len(self.text)
        return untold


@attrs.define
class Story:
    """The demo so far."""

    replicas: Collection[str]
    first_act: int
    """Prompts that are sent before the kill."""
    profile: str
    """Of the gossip, which is as quick as that says."""
    roll: RollCall = attrs.field(default=attrs.Factory(lambda self: RollCall(self.replicas), takes_self=True))
    trials: Trials = attrs.field(factory=Trials)
    streams: dict[int, Stream] = attrs.field(factory=dict)
    news: str = attrs.field()
    """The last line that was not about what a prompt brought."""
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
            case SlowOrdered() | RaceRun() | RejectOrdered() | FaultsCleared():
                return self._as_news(self._handle_trial(event))
            case ProcessReady() | MembersSeen() | ReplicaKilled() | ReplicaRestarted():
                return self._as_news(self._handle_cluster(event))
            case _:
                assert_never(event)

    def _as_news(self, told: Iterable[str]) -> list[str]:
        lines = list(map(one_line, told))
        self.news = lines[-1] if lines else self.news
        return lines

    def _handle_trial(self, event: TrialEvent) -> list[str]:
        match event:
            case SlowOrdered():
                return self.trials.handle_slow(event)
            case RaceRun():
                return self.trials.handle_race(event)
            case RejectOrdered():
                return self.trials.handle_reject(event)
            case FaultsCleared():
                return self.trials.handle_clear(event)
            case _:
                assert_never(event)

    def _handle_cluster(self, event: ClusterEvent) -> list[str]:
        match event:
            case ProcessReady(name, pid, address):
                return [f"{name} is ready on {address} (pid {pid})"]
            case MembersSeen(members):
                lines = [*self.roll.handle_look(members), *self.trials.handle_look(members)]
                if self.sent_before_return is None and self.roll.is_back:
                    self.sent_before_return = len(self.streams)
                return lines
            case ReplicaKilled():
                return self.roll.handle_kill(event)
            case ReplicaRestarted():
                return self.roll.handle_restart(event)
            case _:
                assert_never(event)

    def _handle_token(self, event: TokenArrived) -> list[str]:
        stream = self.streams[event.stream]
        lines = self._handle_move(stream, event) if stream.replica_id not in {"", event.replica_id} else []
        stream.replica_id = event.replica_id
        stream.astray += event.index != stream.tokens
        stream.tokens += 1
        stream.text += event.text
        return lines if stream.tokens % TOKENS_PER_LINE else [*lines, *self._told(stream)]

    def _handle_move(self, stream: Stream, event: TokenArrived) -> list[str]:
        move = Move(event.index, stream.replica_id, event.replica_id)
        stream.moves.append(move)
        self.news = f"prompt {stream.number} goes on at {one_line(move.to)} with token {move.index}: {self._why(move)}"
        return [*self._told(stream), self.news]

    def _handle_end(self, event: StreamEnded) -> list[str]:
        stream = self.streams[event.stream]
        stream.status, stream.message, stream.delivered = event.status, event.message, event.delivered
        stream.splices = event.splices
        why = "" if event.status is StatusCode.OK else f" ({one_line(event.message)})"
        end = f"prompt {stream.number} ended {event.status.name} after {stream.tokens} tokens{why}"
        return [*self._told(stream), end]

    @staticmethod
    def _told(stream: Stream) -> list[str]:
        """The line for what no line has shown yet, if there is any."""
        untold = one_line(stream.take_untold())
        return [f"prompt {stream.number} <- {one_line(stream.replica_id)}: {untold}"] if untold else []

    def _why(self, move: Move) -> str:
        killed = self.roll.killed is not None and self.roll.killed.name == move.origin
        return f"{one_line(move.origin)} {'was killed' if killed else 'could not finish it'}"

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
            who, moves = f"prompt {stream.number}", ",".join(map(str, stream.moves))
            if stream.status is None:
                found.append(f"{who} has no final status")
            elif stream.status is not StatusCode.OK:
                found.append(f"{who} failed after {stream.tokens} tokens: {stream.message}")
            elif stream.astray or stream.delivered != stream.tokens:
                out_of_turn = f", {stream.astray} of them out of turn" if stream.astray else ""
                found.append(f"{who} got {stream.tokens} tokens{out_of_turn}, the gateway says {stream.delivered}")
            elif stream.splices != moves:
                found.append(f"{who} changed replica at {moves or 'no token'}, the gateway says {stream.splices!r}")
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
        if not any(move.origin == name for stream in self.streams.values() for move in stream.moves):
            return f"{name} was killed, and none of its streams went on elsewhere"
        if not roll.is_declared_dead:
            return f"{name} was killed, and the gossip has not declared it DEAD"
        if self.sent_before_return is None:
            return f"{name} was started again, and the gateway is not connected to it as a living member"
        if not self._served_by(name)[1]:
            return f"{name} is back, and has answered nothing since"
        return self.trials.missed()

    def summary(self) -> list[str]:
        """The closing lines, the same with and without a terminal."""
        streams = self.streams.values()
        ok = [stream for stream in streams if stream.status is StatusCode.OK]
        moved = [stream for stream in streams if stream.moves]
        served = sorted({name for stream in streams for name in stream.replicas})
        all_ok = "all OK" if len(ok) == len(streams) else f"{len(ok)} OK"
        tokens, astray = sum(stream.tokens for stream in streams), sum(stream.astray for stream in streams)
        return [
            f"streams: {len(streams)}, {all_ok}, {len(moved)} of them moved to another replica",
            *(
                f"  prompt {stream.number}: from token {move.index} on at {move.to}, as {self._why(move)}"
                for stream in moved
                for move in stream.moves
            ),
            f"tokens: {tokens}, {astray} lost or repeated",
            f"served by: {', '.join(map(self._share, served))}",
            *(f"gossip (profile {self.profile}): {line}" for line in self.roll.summary()),
            *self.trials.summary(),
            *(f"unexpected: {surprise}" for surprise in self.surprises()),
        ]

    def _share(self, name: str) -> str:
        before, after = self._served_by(name)
        if self.roll.killed is None or name != self.roll.killed.name:
            return f"{name} {before + after}"
        return f"{name} {before} (killed)" + (f" and {after} (back)" if after else "")

    def _served_by(self, name: str) -> tuple[int, int]:
        """The streams that a replica had a part in: those sent before the killed one was back, and those sent after."""
        numbers = [stream.number for stream in self.streams.values() if name in stream.replicas]
        turn = len(self.streams) if self.sent_before_return is None else self.sent_before_return
        before = sum(number <= turn for number in numbers)
        return before, len(numbers) - before


def one_line(text: str) -> str:
    """``text`` fit for one line of a terminal: whatever is not printable becomes a space."""
    return "".join(character if character.isprintable() else " " for character in text).strip()
