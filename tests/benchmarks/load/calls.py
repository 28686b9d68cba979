"""The calls of the load: opened, checked byte by byte, counted and timed.

The rule: never the bottleneck, and never credulous. A token that looks as it must is accepted by two byte comparisons;
anything else is parsed and compared field by field, and a call counts as exact only if its tokens were 0..n-1, the last
one final, and its grpc-status 0.
"""

import select
import socket
import time
from typing import Final

from inferencegw.v1 import gateway_pb2, replica_pb2

from .tokens import STAMP_BYTES, Expectation, grpc_message
from .wire import (
    CONNECTION_WINDOW_BYTES,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    HEADERS,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    Connection,
    frame,
    literal,
    opening,
)

# More broken calls than this end the run: it is measuring errors.
MAX_FAULTS: Final = 1000
CANCEL: Final = (8).to_bytes(4, "big")


class Call:
    """One Infer call as the client sees it."""

    __slots__ = ("arrived_ns", "final", "index", "opened_ns", "partial", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.index = 0
        # Set by the slow way only, which every proper last token goes: the fast one knows no last tokens.
        self.final = False
        self.opened_ns = time.monotonic_ns()
        self.arrived_ns = 0
        self.partial = b""


class Counts:
    """What calls have shown, since the last time somebody began to count."""

    def __init__(self) -> None:
        self.faults = 0
        self.first_fault = ""
        self.begin()

    def begin(self) -> None:
        """Forget everything but the faults."""
        self.tokens = 0
        self.requests = 0
        self.ttft_ns: list[int] = []
        self.delay_ns: list[int] = []
        self.gap_ns: list[int] = []

    def forget_faults(self) -> None:
        """What went wrong so far was to be expected."""
        self.faults = 0
        self.first_fault = ""

    def fault(self, what: str) -> None:
        """A call that was not exact."""
        self.faults += 1
        self.first_fault = self.first_fault or what
        if self.faults > MAX_FAULTS:
            raise ConnectionError(f"{self.faults} broken calls; the first: {self.first_fault}")

    def token_time(self, call: Call, sent_ns: int, now_ns: int) -> None:
        """A token arrived that was sent at ``sent_ns``."""
        self.delay_ns.append(now_ns - sent_ns)
        if call.arrived_ns:
            self.gap_ns.append(now_ns - call.arrived_ns)
        else:
            self.ttft_ns.append(now_ns - call.opened_ns)
        call.arrived_ns = now_ns


class ClientConnection(Connection):
    """One connection to the proxy and the calls on it.

    ``repeat``: whether a call that ends is followed at once by another of ``tokens`` tokens. ``timed``: whether single
    tokens are; where they come in thousands it would cost more than they do.
    """

    def __init__(
        self, port: int, poller: select.epoll, counts: Counts, expectation: Expectation, prompt: str, *, timed: bool
    ) -> None:
        super().__init__(socket.create_connection(("127.0.0.1", port)), poller, first_bytes=PREFACE + opening())
        self.calls: dict[int, Call] = {}
        self.repeat = False
        self._counts = counts
        self._expectation = expectation
        self._prompt = prompt
        self._timed = timed
        self._waiting: list[int] = []
        self._next_stream_id = 1
        self._uncredited_bytes = 0
        method = b"InferenceGateway/Infer" if expectation.relayed else b"LLMReplica/Generate"
        self._request_headers = (
            b"\x83\x86"  # :method POST, :scheme http
            + literal(b":path", b"/inferencegw.v1." + method)
            + literal(b":authority", b"127.0.0.1")
            + literal(b"content-type", b"application/grpc")
            + literal(b"te", b"trailers")
        )

    def open_call(self, tokens: int) -> None:
        """Ask for ``tokens`` tokens, as soon as the peer's window has room for the question."""
        # First what tells calls apart, or all would belong to one replica.
        prompt = f"number={self._next_stream_id // 2} {self._prompt}"
        request: gateway_pb2.InferRequest | replica_pb2.GenerateRequest
        if self._expectation.relayed:
            request = gateway_pb2.InferRequest(prompt=prompt, max_tokens=tokens)
        else:
            request = replica_pb2.GenerateRequest(request_id="direct", prompt=prompt, max_tokens=tokens)
        message = grpc_message(request.SerializeToString())
        if len(message) > self.send_window:
            self._waiting.append(tokens)
            return
        stream_id = self._next_stream_id
        self._next_stream_id += 2
        self.send_window -= len(message)
        self.calls[stream_id] = Call(tokens)
        self.output += frame(HEADERS, END_HEADERS, stream_id, self._request_headers)
        self.output += frame(DATA, END_STREAM, stream_id, message)

    def _end_call(self, stream_id: int, how: str) -> None:
        call = self.calls.pop(stream_id)
        if how == "grpc-status 0" and call.final and call.index == call.tokens and not call.partial:
            self._counts.requests += 1
        else:
            final = "with" if call.final else "without"
            self._counts.fault(f"{how} after {call.index} tokens of {call.tokens}, {final} a final one")
        if self.repeat:
            self.open_call(self._expectation.tokens)

    def handle_readable(self) -> None:
        """Everything one read brings. The loop is the client's cost: locals, one unpacking, two comparisons a token."""
        data = self.receive()
        now_ns = time.monotonic_ns()
        calls, counts, timed = self.calls, self._counts, self._timed
        beginnings, endings = self._expectation.beginnings, self._expectation.endings
        rest_bytes = self._expectation.rest_bytes
        unpack = FRAME_HEADER.unpack_from
        flow_controlled_bytes = tokens = position = 0
        limit = len(data)
        while limit - position >= FRAME_HEADER_BYTES:
            word, flags, stream_id = unpack(data, position)
            body = position + FRAME_HEADER_BYTES
            end = body + (word >> 8)
            if end > limit:
                break
            position = end
            if word & 0xFF != DATA:
                self._handle_frame(word & 0xFF, flags, stream_id, data[body:end])
                continue
            flow_controlled_bytes += end - body
            call = calls.get(stream_id)
            if call is None:
                continue
            beginning = beginnings[call.index]
            if (
                end - body == len(beginning) + rest_bytes
                and data.startswith(beginning, body)
                and data.endswith(endings[call.index], body, end)
                and not call.partial
                and not flags
            ):
                call.index += 1
                tokens += 1
                if timed:
                    stamp = body + len(beginning)
                    counts.token_time(call, int(data[stamp : stamp + STAMP_BYTES], 16), now_ns)
            else:
                self._handle_data(stream_id, data[body:end], flags, now_ns)
        self.keep(data[position:])
        counts.tokens += tokens
        self._credit(flow_controlled_bytes)

    def _credit(self, flow_controlled_bytes: int) -> None:
        self._uncredited_bytes += flow_controlled_bytes
        if self._uncredited_bytes > CONNECTION_WINDOW_BYTES // 4:
            self.output += frame(WINDOW_UPDATE, 0, 0, self._uncredited_bytes.to_bytes(4, "big"))
            self._uncredited_bytes = 0

    def _handle_data(self, stream_id: int, payload: bytes, flags: int, now_ns: int) -> None:
        """Any DATA frame that is not exactly one expected message."""
        try:
            self._check_data(self.calls[stream_id], payload, now_ns)
        except ValueError as error:
            self.output += frame(RST_STREAM, 0, stream_id, CANCEL)
            self._end_call(stream_id, str(error))
        else:
            if flags:
                self._end_call(stream_id, f"DATA with flags {flags:#x} where trailers should end the response")

    def _check_data(self, call: Call, payload: bytes, now_ns: int) -> None:
        """Frames may be cut anywhere, and a proxy may put many messages into one."""
        expectation, counts, timed = self._expectation, self._counts, self._timed
        beginnings, endings = expectation.beginnings, expectation.endings
        data = call.partial + payload
        position = sent_ns = 0
        while len(data) - position >= 5:
            beginning = beginnings[call.index]
            stamp = position + len(beginning)
            end = position + len(beginning) + expectation.rest_bytes
            if data.startswith(beginning, position) and data.startswith(endings[call.index], stamp + STAMP_BYTES):
                if timed:
                    sent_ns = int(data[stamp : stamp + STAMP_BYTES], 16)
            else:
                end = position + 5 + int.from_bytes(data[position + 1 : position + 5], "big")
                if end > len(data):
                    break
                sent_ns = expectation.sent_at(data[position + 5 : end], call.index, call.tokens)
                call.final = call.index == call.tokens - 1
            position = end
            call.index += 1
            counts.tokens += 1
            if timed:
                counts.token_time(call, sent_ns, now_ns)
        call.partial = data[position:]

    def _handle_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == HEADERS:
            headers = self.header_block(flags, payload)
            if flags & END_STREAM and stream_id in self.calls:
                status, message = headers.get("grpc-status", "missing"), headers.get("grpc-message", "")
                self._end_call(stream_id, f"grpc-status {status} {message}".rstrip())
        elif kind == RST_STREAM and stream_id in self.calls:
            self._end_call(stream_id, f"RST_STREAM {payload.hex()}")
        elif stream_id == 0:
            self.handle_control(kind, flags, payload)
            waiting, self._waiting = self._waiting, []
            for tokens in waiting:
                self.open_call(tokens)
