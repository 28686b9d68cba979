"""What a deadline leaves of a call on the wire, where the client does not end it first, as grpcio and our channel do.

The other end is a raw peer: it sends ``grpc-timeout`` and leaves the clock to the gateway.
"""

from collections.abc import Sequence
from zlib import crc32

import pytest
import trio

from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.gateway.support import INFER, Front, ScriptedReplica, gateway, sends, token, unused_address, wait_for_ever
from tests.rpc.raw_peer import Exchange, RawPeer, framed, whole_messages

HEADERS: Sequence[tuple[str, str]] = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", INFER.path),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("grpc-timeout", "1S"),  # long enough for a handful of tokens on a machine that is busy with something else
)
DEADLINE_EXCEEDED = 4


async def infer_raw(front: Front, settings: dict[int, int] | None = None) -> Exchange:
    """``Infer`` with a deadline that only the gateway keeps, to its end."""
    async with await trio.open_tcp_stream("127.0.0.1", front.port) as stream:
        peer = RawPeer(stream, is_client=True)
        await peer.start(settings)
        request = InferRequest(prompt="p", max_tokens=9, request_id="q1").SerializeToString()
        await peer.send(peer.headers(1, HEADERS), peer.data(1, framed(request), end_stream=True))
        await peer.until_closed(1)
        return peer.streams[1]


async def test_a_deadline_is_answered_with_an_account_of_the_call() -> None:
    """DEADLINE_EXCEEDED, how far it got and why it ended, after the tokens that came in time."""
    replica = ScriptedReplica(sends(token(0), token(1), then=wait_for_ever))
    async with gateway(replica) as front:
        exchange = await infer_raw(front)
        await replica.until(lambda: replica.active == 0)
    assert [InferResponse.FromString(message).index for message in exchange.messages] == [0, 1]
    assert exchange.status == DEADLINE_EXCEEDED
    assert (
        exchange.trailers.items()
        >= {
            "gw-request-id": "q1",
            "gw-delivered": "2",
            "gw-next-index": "2",
            "gw-digest": f"{crc32(b't0 t1 '):08x}",
            "gw-attempts": "1",
            "gw-splices": "",
            "gw-reason": "deadline",
        }.items()
    )


async def test_a_deadline_in_the_wait_for_a_replica_is_answered_as_a_refusal() -> None:
    """Trailers-Only: nothing was begun, so a client may retry."""
    async with gateway(await unused_address()) as front:
        exchange = await infer_raw(front)
    assert len(exchange.blocks) == 1
    assert exchange.status == DEADLINE_EXCEEDED
    assert (exchange.trailers["gw-delivered"], exchange.trailers["gw-attempts"]) == ("0", "0")
    assert exchange.trailers["gw-reason"] == "deadline"
    assert int(exchange.trailers["gw-queue-ms"]) >= 999


@pytest.mark.parametrize("window", [0, 10, 40, 47])
async def test_tokens_that_the_clients_window_kept_back_do_not_count_as_delivered(window: int) -> None:
    """The account is of what was put on the wire in whole messages, whatever was on its way."""
    replica = ScriptedReplica(sends(*(token(index) for index in range(8)), then=wait_for_ever))
    initial_window_size = 4
    async with gateway(replica) as front:
        exchange = await infer_raw(front, {initial_window_size: window})
    messages, half = whole_messages(bytes(exchange.data))
    whole = [InferResponse.FromString(message) for message in messages]
    assert sum(5 + len(message) for message in messages) + len(half) == window
    assert exchange.status == DEADLINE_EXCEEDED
    assert exchange.trailers["gw-delivered"] == str(len(whole))
    digest = crc32("".join(one.text for one in whole).encode())
    assert exchange.trailers["gw-digest"] == f"{digest:08x}"
