"""Traces: a span for each call and, below it, one for each attempt (OpenTelemetry), and ``traceparent`` in and out.

The rule: what comes from a client's trace goes on to the replica, whether or not anybody records here. Where
opentelemetry-api is installed and a tracer provider was set up (``opentelemetry-instrument trio-gw run`` does that),
spans are made, and the replica's parent is its attempt; else the W3C headers are handed through as they came. No span
has a prompt or a token in it.

Why not the API's own no-op spans: without a provider they cost each call what a real one does, and record nothing.
"""

import re
from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias

import attrs

from inferencegw import __version__
from inferencegw.errors import Metadata

try:
    from opentelemetry import propagate, trace
except ImportError:  # the extra `tracing` is not installed
    _INSTALLED = False
else:
    _INSTALLED = True

__all__ = ["UNTRACED", "AttemptTrace", "CallTrace", "Facts", "begin_call"]

CALL: Final = "inferencegw.v1.InferenceGateway/Infer"
ATTEMPT: Final = "inferencegw.v1.LLMReplica/Generate"

# https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags; later versions may have more.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,100})?"
)
_TRACESTATE: Final = re.compile(r"[\x20-\x7e]{1,512}")

_NAMES: Final = ("traceparent", "tracestate")

Facts: TypeAlias = Mapping[str, str | int | float | bool]
"""What is said of a span: attributes by name."""


class AttemptTrace(Protocol):
    """One attempt."""

    @property
    def metadata(self) -> Metadata:
        """What its replica is told of whose call it is."""

    def end(self, facts: Facts, *, failed: str = "") -> None:
        """It is over, and how it went; ``failed`` says what was wrong, if anything was."""


class CallTrace(Protocol):
    """One call."""

    def begin_attempt(self, facts: Facts) -> AttemptTrace:
        """One more attempt of it."""

    def end(self, facts: Facts, *, failed: str = "") -> None:
        """It is over; see above."""


def begin_call(metadata: Metadata) -> CallTrace:
    """The trace of a call that came with ``metadata``."""
    headers = _headers(metadata)
    tracer = _tracer()
    if tracer is None:
        return _Handed(tuple(headers.items())) if headers else UNTRACED
    parent = propagate.extract(headers)
    span = tracer.start_span(CALL, parent, trace.SpanKind.SERVER, {"rpc.system": "grpc"})
    return _Recorded(tracer, span)


def _headers(metadata: Metadata) -> dict[str, str]:
    """The two of W3C, if they are sound: a client may write anything, and a replica need not read it."""
    found = {name: value for name, value in metadata if name in _NAMES and isinstance(value, str)}
    if not found or not _TRACEPARENT.fullmatch(found.get("traceparent", "")):
        return {}
    if not _TRACESTATE.fullmatch(found.get("tracestate", "")):
        found.pop("tracestate", None)
    return found


def _tracer() -> "trace.Tracer | None":
    """Who records; None where nobody does."""
    if not _INSTALLED:
        return None
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider.get_tracer("inferencegw", __version__)


@attrs.frozen
class _Handed:
    """Nobody records: the client's headers are the replica's. It is its attempts, too."""

    metadata: Metadata

    def begin_attempt(self, facts: Facts) -> AttemptTrace:
        return self

    def end(self, facts: Facts, *, failed: str = "") -> None:
        pass


UNTRACED: Final = _Handed(())
"""Of whom nobody knows anything."""


@attrs.frozen(eq=False)
class _Recorded:
    """A span, of a call or of an attempt."""

    tracer: "trace.Tracer"
    span: "trace.Span"

    @property
    def metadata(self) -> Metadata:
        headers: dict[str, str] = {}
        propagate.inject(headers, trace.set_span_in_context(self.span))
        return tuple(headers.items())

    def begin_attempt(self, facts: Facts) -> AttemptTrace:
        parent = trace.set_span_in_context(self.span)
        span = self.tracer.start_span(ATTEMPT, parent, trace.SpanKind.CLIENT, {"rpc.system": "grpc", **facts})
        return _Recorded(self.tracer, span)

    def end(self, facts: Facts, *, failed: str = "") -> None:
        self.span.set_attributes(dict(facts))
        if failed:
            self.span.set_status(trace.StatusCode.ERROR, failed)
        self.span.end()
