"""What the client makes of a gateway that cannot be believed; the checks are client/transcript.py's."""

import pytest

from inferencegw.client import AsyncClient, Token
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import ServerCall
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.client.support import (
    both_backends,
    consume,
    digest,
    gateway,
    messages,
    run,
    trailers,
)
from tests.rpc.raw_peer import Header


def without(name: str, *, of: int) -> list[Header]:
    """The trailers of the first ``of`` of four tokens, but one."""
    sent = messages(InferRequest(max_tokens=4))[:of]
    return [entry for entry in trailers(sent) if entry[0] != name]


def changed(name: str, value: str, *, of: int) -> list[Header]:
    """The same with one changed."""
    return [*without(name, of=of), (name, value)]


@both_backends
@pytest.mark.parametrize(
    ("indexes", "trailing", "received", "check"),
    [
        ([0, 2], without("", of=2), [0], "token 2 came where 1 was next"),
        ([1], without("", of=1), [], "token 1 came where 0 was next"),
        ([0, 1, 1], without("", of=3), [0, 1], "token 1 came again"),
        ([0, 1, 2, 3, 4], without("", of=4), [0, 1, 2, 3], "token 4 came after the last one, 3"),
        ([0, 1], without("", of=2), [0, 1], "the call ended OK where token 2 was next, without a final token"),
        ([], without("", of=0), [], "the call ended OK where token 0 was next, without a final token"),
        (
            [0, 1, 2, 3],
            changed("gw-delivered", "5", of=4),
            [0, 1, 2, 3],
            "gw-delivered is '5' but what came here has '4'",
        ),
        ([0, 1, 2, 3], without("gw-delivered", of=4), [0, 1, 2, 3], "gw-delivered is '' but what came here has '4'"),
        (
            [0, 1, 2, 3],
            changed("gw-digest", "00c0ffee", of=4),
            [0, 1, 2, 3],
            f"gw-digest is '00c0ffee' but what came here has '{digest(['he', 'llo', ' ', 'wörld'])}'",
        ),
        ([0, 1, 2, 3], without("gw-digest", of=4), [0, 1, 2, 3], "gw-digest is '' but"),
    ],
)
def test_a_stream_that_cannot_be_believed_is_data_loss(
    backend: str, indexes: list[int], trailing: list[Header], received: list[int], check: str
) -> None:
    """The error says which check failed; the tokens before it came, and the call is over at the gateway."""

    async def script(call: ServerCall) -> None:
        right = [*messages(call.request), InferResponse(index=4)]
        call.trailing_metadata += trailing
        await call.send_many([right[index] for index in indexes])

    async def main() -> None:
        taken: list[Token] = []
        async with AsyncClient(server.address) as client, client.generate("p", max_tokens=4) as generation:
            with pytest.raises(RpcError) as raised:
                await consume(generation, taken)
            with pytest.raises(RpcError) as again:
                await anext(generation)
        assert raised.value.code is again.value.code is StatusCode.DATA_LOSS
        assert check in raised.value.message
        assert [token.index for token in taken] == received
        assert generation.next_index == len(received)

    with gateway(script) as server:
        run(backend, main)
