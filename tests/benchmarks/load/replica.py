"""A replica that costs nothing: it answers LLMReplica's Generate with frames made beforehand, and GetInfo.

The rule: never the bottleneck. One thread, one epoll, whole batches of tokens copied from templates into a connection's
output. The prompt says how to send: ``interval_us=33333 step=0`` paces a stream by a clock of its own, ``step=1`` by
the clock all streams share (lock-step), ``interval_us=0`` sends as fast as flow control and the socket allow.
``event=`` says what befalls the call: see :data:`.tokens.Event`. Half of the calls, by ``number=``, find this replica
silent where ``hedged``, the other half the other one.

Run as ``python -m tests.benchmarks.load.replica NUMBER``, which of the two it is; it prints ``ready grpc=HOST:PORT``.
"""

import heapq
import select
import socket
import sys
import time
from collections import deque
from typing import Final, NoReturn

from inferencegw.v1 import replica_pb2

from .tokens import BATCH_TOKENS, EVENT_INDEX, REPLICA_IDS, fill, grpc_message, template
from .wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    Connection,
    frame,
    literal,
    opening,
)

RESPONSE_HEADERS: Final = b"\x88" + literal(b"content-type", b"application/grpc")
STATUS_OK: Final = literal(b"grpc-status", b"0")
FAILED: Final = literal(b"grpc-status", b"14")
STATUS_UNIMPLEMENTED: Final = literal(b"grpc-status", b"12")
# Output made ahead for one connection. High: tokens wait here and not where backpressure shows. Low: small reads.
OUTPUT_BYTES: Final = 64 * 1024


class Generation:
    """One running Generate call."""

    __slots__ = ("connection", "credit", "due_ns", "end", "index", "interval_ns", "step", "stream_id", "tokens")

    def __init__(self, connection: "ReplicaConnection", stream_id: int, request: replica_pb2.GenerateRequest) -> None:
        pace = dict(word.split("=") for word in request.prompt.split())
        self.connection = connection
        self.stream_id = stream_id
        self.index = request.tokens_already_generated
        self.tokens = self.end = request.max_tokens
        # Short calls are the client's first ones, which only see whether anybody is there.
        if self.tokens > EVENT_INDEX:
            if pace["event"] == "failed-over" and not self.index:
                self.end = EVENT_INDEX
            elif pace["event"] == "hedged" and int(pace["number"]) % len(REPLICA_IDS) == NUMBER:
                self.end = 0
        self.interval_ns = int(pace["interval_us"]) * 1000
        self.step = pace["step"] == "1"
        self.due_ns = time.monotonic_ns()
        if self.step:
            self.due_ns += -self.due_ns % self.interval_ns
        # The stream's window is the peer's initial window plus this: a changed setting then needs no visit here.
        self.credit = 0

    def send(self, batch_tokens: int, now_ns: int) -> bool:
        """Append tokens up to the next multiple of ``batch_tokens``; False where flow control has no room for one."""
        connection = self.connection
        window = min(connection.send_window, connection.initial_window + self.credit)
        count = min(batch_tokens - self.index % batch_tokens, self.end - self.index)
        frames, size = template(self.index, count, final=self.index + count == self.tokens)
        if size > window and count > 1:
            count = 1
            frames, size = template(self.index, count, final=self.index + count == self.tokens)
        if size > window:
            return False
        connection.output += fill(frames, self.stream_id, now_ns)
        connection.send_window -= size
        self.credit -= size
        self.index += count
        if self.finished and self.end < self.tokens:
            connection.output += frame(HEADERS, END_HEADERS | END_STREAM, self.stream_id, FAILED)
        return True

    @property
    def finished(self) -> bool:
        """Whether the last token of this attempt and the trailers are on their way."""
        return self.index == self.end


class ReplicaConnection(Connection):
    """One proxy's connection and the generations on it."""

    def __init__(self, sock: socket.socket, poller: select.epoll) -> None:
        super().__init__(sock, poller, first_bytes=opening(), preface=PREFACE)
        self.requests: dict[int, tuple[str, bytes]] = {}
        self.generations: dict[int, Generation] = {}
        self.unpaced: deque[Generation] = deque()
        self.parked: list[Generation] = []

    def fill_output(self) -> bool:
        """Let the unpaced generations take turns until the output is full; whether one of them has more to send."""
        now_ns = time.monotonic_ns()
        while self.unpaced and len(self.output) < OUTPUT_BYTES:
            generation = self.unpaced.popleft()
            if self.generations.get(generation.stream_id) is not generation:
                continue
            if not generation.send(BATCH_TOKENS, now_ns):
                self.parked.append(generation)
            elif generation.finished:
                del self.generations[generation.stream_id]
            else:
                self.unpaced.append(generation)
        return bool(self.unpaced)


class Replica:
    """The process: a listener, its connections, and a heap of the paced generations by when they are due."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._poller = select.epoll()
        self._poller.register(listener.fileno(), select.EPOLLIN)
        self._connections: dict[int, ReplicaConnection] = {}
        self._due: list[tuple[int, int, Generation]] = []
        self._sequence = 0

    def run(self) -> NoReturn:
        """Serve for ever."""
        while True:
            self._send_due()
            busy = [c for c in self._connections.values() if not c.blocked and c.fill_output()]
            for connection in list(self._connections.values()):
                self._flush(connection)
            # epoll counts in milliseconds, which would gather the tokens of a millisecond into one batch and spare the
            # proxy most of its wake-ups; select counts in microseconds.
            select.select([self._poller], [], [], 0 if any(not c.blocked for c in busy) else self._time_to_next_token())
            for descriptor, events in self._poller.poll(0):
                self._handle(descriptor, events)

    def _time_to_next_token(self) -> float | None:
        return max(0.0, (self._due[0][0] - time.monotonic_ns()) / 1e9) if self._due else None

    def _send_due(self) -> None:
        now_ns = time.monotonic_ns()
        while self._due and self._due[0][0] <= now_ns:
            generation = heapq.heappop(self._due)[2]
            connection = generation.connection
            if connection.generations.get(generation.stream_id) is not generation:
                continue
            if not generation.send(1, now_ns):
                connection.parked.append(generation)
            elif generation.finished:
                del connection.generations[generation.stream_id]
            else:
                generation.due_ns += generation.interval_ns
                self._schedule(generation)

    def _schedule(self, generation: Generation) -> None:
        if generation.interval_ns:
            self._sequence += 1
            heapq.heappush(self._due, (generation.due_ns, self._sequence, generation))
        else:
            generation.connection.unpaced.append(generation)

    def _flush(self, connection: ReplicaConnection) -> None:
        try:
            connection.flush()
        except EOFError:
            self._drop(connection)

    def _drop(self, connection: ReplicaConnection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.generations.clear()
        connection.close()

    def _handle(self, descriptor: int, events: int) -> None:
        if descriptor == self._listener.fileno():
            sock, _ = self._listener.accept()
            self._connections[sock.fileno()] = ReplicaConnection(sock, self._poller)
        elif events & ~select.EPOLLOUT:
            connection = self._connections[descriptor]
            try:
                for kind, flags, stream_id, payload in connection.frames():
                    self._handle_frame(connection, kind, flags, stream_id, payload)
            except EOFError:
                self._drop(connection)

    def _handle_frame(
        self, connection: ReplicaConnection, kind: int, flags: int, stream_id: int, payload: bytes
    ) -> None:
        if kind == HEADERS:
            connection.requests[stream_id] = connection.header_block(flags, payload)[":path"], b""
        elif kind == DATA:
            path, body = connection.requests[stream_id]
            connection.requests[stream_id] = path, body + payload
        elif kind == RST_STREAM:
            connection.requests.pop(stream_id, None)
            connection.generations.pop(stream_id, None)
        elif kind == WINDOW_UPDATE and stream_id:
            if stream_id in connection.generations:
                connection.generations[stream_id].credit += int.from_bytes(payload, "big")
        else:
            connection.handle_control(kind, flags, payload)
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self._answer(connection, stream_id, *connection.requests.pop(stream_id))
        elif connection.parked:
            # Credit may have come, for this stream or for all; whoever still has none parks again.
            parked, connection.parked = connection.parked, []
            for generation in parked:
                self._schedule(generation)

    def _answer(self, connection: ReplicaConnection, stream_id: int, path: str, body: bytes) -> None:
        if path == "/inferencegw.v1.LLMReplica/Generate":
            generation = Generation(connection, stream_id, replica_pb2.GenerateRequest.FromString(body[5:]))
            connection.output += frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEADERS)
            connection.generations[stream_id] = generation
            if not generation.finished:
                self._schedule(generation)
        elif path == "/inferencegw.v1.LLMReplica/GetInfo":
            message = grpc_message(INFO.SerializeToString())
            connection.output += frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEADERS)
            connection.output += frame(DATA, 0, stream_id, message)
            connection.output += frame(HEADERS, END_HEADERS | END_STREAM, stream_id, STATUS_OK)
            connection.send_window -= len(message)
        else:
            trailers_only = RESPONSE_HEADERS + STATUS_UNIMPLEMENTED
            connection.output += frame(HEADERS, END_HEADERS | END_STREAM, stream_id, trailers_only)


NUMBER: Final = int(sys.argv[1])
INFO: Final = replica_pb2.GetInfoResponse(
    replica_id=REPLICA_IDS[NUMBER],
    model="bench",
    model_version="1",
    max_capacity=65_536,
    epoch=time.time_ns() // 1_000_000,
)


def main() -> None:
    """Listen, say where, and serve until killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(f"ready grpc=127.0.0.1:{listener.getsockname()[1]}", flush=True)
        Replica(listener).run()


if __name__ == "__main__":
    main()
