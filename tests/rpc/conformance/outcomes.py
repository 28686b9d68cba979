"""What may come back: each outcome looks at the frames that came and says whether the RFC is kept.

The rule: an outcome is pure. :meth:`Outcome.judge` gets every frame since the step before, and whether the connection
is open, silent or closed, and returns a verdict, or None while it may still go either way. Nothing here waits.

Two judges stand behind the verdicts. RIGHT is what the RFC says, to the letter. TOLERATED is what the RFC does not say
but a conformance suite that only watches for the end of the connection takes as right too (closed without GOAWAY, or
with another code): our tests want RIGHT, the table that predicts an external suite's count takes both.
"""

import enum
from collections.abc import Sequence
from typing import Protocol

import attrs

from .frames import ACK, Code, Frame, Type

__all__ = [
    "End",
    "Outcome",
    "Verdict",
    "answers",
    "any_of",
    "closes",
    "connection_error",
    "credit_returned",
    "data_exactly",
    "first_data",
    "first_frame_is_settings",
    "gets_headers",
    "goaway_says",
    "not_offered",
    "ping_acked",
    "settings_acked",
    "stream_closes",
    "stream_error",
    "stream_reset",
]


class End(enum.Enum):
    """How far the answer has come: more may follow, nothing more follows in time, or nothing more can."""

    OPEN = "open"
    SILENT = "silent"
    CLOSED = "closed"


class Verdict(enum.Enum):
    """See the module's text; SKIPPED is for what a server does not offer."""

    RIGHT = "right"
    TOLERATED = "tolerated"
    SKIPPED = "skipped"
    WRONG = "wrong"


class Outcome(Protocol):
    """One thing that may be right."""

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        """The verdict; None while ``end`` is OPEN and more frames could change it."""


def _of(came: Sequence[Frame], type_: Type, stream: int = 0) -> list[Frame]:
    return [frame for frame in came if frame.type == type_ and frame.stream == stream]


def _names(codes: Sequence[Code]) -> str:
    return " or ".join(code.name for code in codes)


@attrs.frozen
class _ConnectionError:
    codes: tuple[Code, ...]
    last: int | None = None

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        # RFC 9113 5.4.1: GOAWAY, then the connection MUST be closed. So the verdict waits for both.
        if end is End.OPEN:
            return None
        said = [f for f in _of(came, Type.GOAWAY) if f.code != Code.NO_ERROR]
        right = bool(said) and said[-1].code in self.codes and self.last in (None, said[-1].number)
        if end is End.CLOSED:
            return Verdict.RIGHT if right else Verdict.TOLERATED
        return Verdict.TOLERATED if right else Verdict.WRONG

    def __str__(self) -> str:
        last = "" if self.last is None else f", last stream {self.last}"
        return f"connection error {_names(self.codes)}{last}"


@attrs.frozen
class _StreamError:
    stream: int | None
    codes: tuple[Code, ...]

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        # RFC 9113 5.4.1: an endpoint MAY treat a stream error as a connection error, with the same code.
        said = [f for f in came if f.type == Type.RST_STREAM and self.stream in (None, f.stream)]
        if any(frame.code in self.codes for frame in said + _of(came, Type.GOAWAY)):
            return Verdict.RIGHT
        return {End.OPEN: None, End.CLOSED: Verdict.TOLERATED, End.SILENT: Verdict.WRONG}[end]

    def __str__(self) -> str:
        return (
            f"stream error {_names(self.codes)} on {'any stream' if self.stream is None else f'stream {self.stream}'}"
        )


@attrs.frozen
class _StreamReset:
    stream: int
    codes: tuple[Code, ...]

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        if said := _of(came, Type.RST_STREAM, self.stream):
            return Verdict.RIGHT if said[0].code in self.codes else Verdict.WRONG
        return None if end is End.OPEN and not _of(came, Type.GOAWAY) else Verdict.WRONG

    def __str__(self) -> str:
        return f"RST_STREAM {_names(self.codes)} on stream {self.stream}"


@attrs.frozen
class _GoawaySays:
    code: Code

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        if said := _of(came, Type.GOAWAY):
            return Verdict.RIGHT if said[0].code == self.code else Verdict.WRONG
        return None if end is End.OPEN else Verdict.WRONG

    def __str__(self) -> str:
        return f"GOAWAY {self.code.name}"


@attrs.frozen
class _Closes:
    codes: tuple[Code, ...]

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        if end is not End.CLOSED:
            return None if end is End.OPEN else Verdict.WRONG
        said = _of(came, Type.GOAWAY)
        return Verdict.RIGHT if all(frame.code in self.codes for frame in said) else Verdict.TOLERATED

    def __str__(self) -> str:
        return f"connection closed, GOAWAY optional ({_names(self.codes)})"


@attrs.frozen
class _Answers:
    stream: int
    statuses: frozenset[int]
    whole: bool

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        mine = [f for f in came if f.stream == self.stream and f.type in (Type.HEADERS, Type.DATA)]
        final = next((s for f in mine if (s := self._status(f)) >= 200), 0)
        given_up = bool(_of(came, Type.RST_STREAM, self.stream)) or any(f.code for f in _of(came, Type.GOAWAY))
        if final and (not self.whole or any(frame.ends_stream for frame in mine)):
            return Verdict.RIGHT if not self.statuses or final in self.statuses else Verdict.TOLERATED
        if end is End.OPEN and not given_up:
            return None
        return Verdict.TOLERATED if final else Verdict.WRONG

    @staticmethod
    def _status(frame: Frame) -> int:
        text = dict(frame.fields or ()).get(":status", "0")
        return int(text) if text.isdecimal() else 0

    def __str__(self) -> str:
        statuses = " or ".join(map(str, sorted(self.statuses)))
        return f"{'a whole' if self.whole else 'the start of an'} answer {statuses} on stream {self.stream}"


@attrs.frozen
class _PingAcked:
    payload: bytes

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        # What went before was to be ignored, so an error in between is wrong even if the PING is answered.
        if any(frame.code for frame in _of(came, Type.GOAWAY)):
            return Verdict.WRONG
        for frame in _of(came, Type.PING):
            return Verdict.RIGHT if frame.flags & ACK and frame.payload == self.payload else Verdict.WRONG
        return None if end is End.OPEN else Verdict.WRONG

    def __str__(self) -> str:
        return "no error, and the PING is acknowledged"


@attrs.frozen
class _SettingsAcked:
    times: int

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        if sum(bool(frame.flags & ACK) for frame in _of(came, Type.SETTINGS)) == self.times:
            return Verdict.RIGHT
        return None if end is End.OPEN else Verdict.WRONG

    def __str__(self) -> str:
        return f"SETTINGS acknowledged {self.times} time(s)"


@attrs.frozen
class _FirstFrameIsSettings:
    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        if came:
            return Verdict.RIGHT if came[0].type == Type.SETTINGS and not came[0].flags & ACK else Verdict.WRONG
        return None if end is End.OPEN else Verdict.WRONG

    def __str__(self) -> str:
        return "the first frame is SETTINGS"


@attrs.frozen
class _FirstData:
    stream: int
    octets: int | None

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        if got := _of(came, Type.DATA, self.stream):
            return Verdict.RIGHT if self.octets in (None, len(got[0].payload)) else Verdict.WRONG
        return None if end is End.OPEN else Verdict.WRONG

    def __str__(self) -> str:
        return f"DATA of {'any length' if self.octets is None else f'{self.octets} octets'} on stream {self.stream}"


@attrs.frozen
class _DataExactly:
    stream: int
    octets: int

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        got = sum(len(frame.payload) for frame in _of(came, Type.DATA, self.stream))
        if end is End.OPEN and got <= self.octets:
            return None
        return Verdict.RIGHT if got == self.octets and end is End.SILENT else Verdict.WRONG

    def __str__(self) -> str:
        return f"exactly {self.octets} octets of DATA on stream {self.stream}, then silence"


@attrs.frozen
class _StreamCloses:
    stream: int

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        ended = any(frame.ends_stream and frame.stream == self.stream for frame in came)
        if ended or any(frame.code == Code.NO_ERROR for frame in _of(came, Type.RST_STREAM, self.stream)):
            return Verdict.RIGHT
        return None if end is End.OPEN else Verdict.WRONG

    def __str__(self) -> str:
        return f"stream {self.stream} ends"


@attrs.frozen
class _CreditReturned:
    stream: int
    at_least: int

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        if sum(frame.number for frame in _of(came, Type.WINDOW_UPDATE, self.stream)) >= self.at_least:
            return Verdict.RIGHT
        return None if end is End.OPEN else Verdict.WRONG

    def __str__(self) -> str:
        where = f"stream {self.stream}" if self.stream else "the connection"
        return f"the window of {where} is given back, {self.at_least} octets or more"


@attrs.frozen
class _AnyOf:
    outcomes: tuple[Outcome, ...]

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        verdicts = [outcome.judge(came, end) for outcome in self.outcomes]
        if Verdict.RIGHT in verdicts:
            return Verdict.RIGHT
        if None in verdicts:
            return None
        return Verdict.TOLERATED if Verdict.TOLERATED in verdicts else Verdict.WRONG

    def __str__(self) -> str:
        return ", or ".join(map(str, self.outcomes))


@attrs.frozen
class _NotOffered:
    what: str

    def judge(self, came: Sequence[Frame], end: End) -> Verdict | None:
        return Verdict.SKIPPED

    def __str__(self) -> str:
        return f"the server does not offer {self.what}"


def not_offered(what: str) -> Outcome:
    """The case does not apply to this server."""
    return _NotOffered(what)


def connection_error(*codes: Code, last: int | None = None) -> Outcome:
    """GOAWAY with one of ``codes`` (and ``last`` as its last stream), then the connection is closed."""
    return _ConnectionError(codes, last)


def stream_error(stream: int | None, *codes: Code) -> Outcome:
    """RST_STREAM with one of ``codes`` (on any stream, for None), or a GOAWAY with one of them."""
    return _StreamError(stream, codes)


def stream_reset(stream: int, *codes: Code) -> Outcome:
    """RST_STREAM with one of ``codes``; the connection lives."""
    return _StreamReset(stream, codes)


def goaway_says(code: Code) -> Outcome:
    """A GOAWAY with exactly this code; it is not enough to close."""
    return _GoawaySays(code)


def closes(*codes: Code) -> Outcome:
    """The connection is closed. A GOAWAY may come first, with one of ``codes``."""
    return _Closes(codes)


def answers(stream: int, *statuses: int) -> Outcome:
    """A whole answer, to END_STREAM, with a final status that is one of ``statuses`` (none named: any)."""
    return _Answers(stream, frozenset(statuses), whole=True)


def gets_headers(stream: int) -> Outcome:
    """The header section of an answer; what follows may be held back by a window."""
    return _Answers(stream, frozenset(), whole=False)


def ping_acked(payload: bytes = bytes(8)) -> Outcome:
    """No connection error, and the first PING that comes is the acknowledgement with this payload."""
    return _PingAcked(payload)


def settings_acked(times: int = 1) -> Outcome:
    """SETTINGS ACK, as often as SETTINGS were sent."""
    return _SettingsAcked(times)


def first_frame_is_settings() -> Outcome:
    """The server's half of the connection preface."""
    return _FirstFrameIsSettings()


def first_data(stream: int, octets: int | None = None) -> Outcome:
    """The first DATA frame on the stream is this long."""
    return _FirstData(stream, octets)


def data_exactly(stream: int, octets: int) -> Outcome:
    """All DATA on the stream together is this long, then nothing more comes."""
    return _DataExactly(stream, octets)


def stream_closes(stream: int) -> Outcome:
    """The server ends its side of the stream, in order or with RST_STREAM NO_ERROR (RFC 9113, section 8.1)."""
    return _StreamCloses(stream)


def credit_returned(stream: int, at_least: int) -> Outcome:
    """WINDOW_UPDATE on the stream (0: the connection), this much in all."""
    return _CreditReturned(stream, at_least)


def any_of(*outcomes: Outcome) -> Outcome:
    """Where the RFC leaves a choice."""
    return _AnyOf(outcomes)
