"""TLS between our server and grpcio, and between our channel and grpcio; the handshakes in memory are in test_tls.py.

A connection that is refused never reaches a handler, and never disturbs one that was let in.
"""

import concurrent.futures
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import grpc
import pytest
import trio

from inferencegw.errors import ConnectionLost
from inferencegw.rpc.channel import open_channel
from inferencegw.rpc.server import serve
from inferencegw.rpc.tls import client_context, server_context
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse
from tests.rpc.identity import Identity
from tests.rpc.raw_peer import RawPeer
from tests.rpc.support import (
    GENERATE,
    PATIENCE,
    Replica,
    a_request,
    ask,
    finish,
    generate_tokens,
    start_generate,
    tokens,
)

HOST = "gateway.test"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """What the server shows."""
    return Identity.make(tmp_path_factory.mktemp("gateway"), HOST)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """What a client shows."""
    return Identity.make(tmp_path_factory.mktemp("client"), "client.test")


@asynccontextmanager
async def serving(replica: Replica, ssl_context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve ``replica`` over TLS; the port."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            _host, port = await nursery.start(partial(serve, [replica.service], ssl_context=ssl_context))
            yield port
            nursery.cancel_scope.cancel()


@contextmanager
def secure_channel(port: int, server: Identity, shown: Identity | None = None) -> Iterator[grpc.Channel]:
    """A grpcio channel that believes ``server``'s authority and shows ``shown``."""
    credentials = grpc.ssl_channel_credentials(
        server.ca.read_bytes(),
        shown.key.read_bytes() if shown else None,
        shown.cert.read_bytes() if shown else None,
    )
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", HOST)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        yield channel


@contextmanager
def secure_grpcio_server(shown: Identity, client_ca: Identity | None = None) -> Iterator[int]:
    """A grpcio server that sends tokens over TLS, to clients of ``client_ca`` only where that is given; the port."""
    credentials = grpc.ssl_server_credentials(
        [(shown.key.read_bytes(), shown.cert.read_bytes())],
        client_ca.ca.read_bytes() if client_ca else None,
        client_ca is not None,
    )
    handler = grpc.unary_stream_rpc_method_handler(
        generate_tokens,
        request_deserializer=GenerateRequest.FromString,
        response_serializer=GenerateResponse.SerializeToString,
    )
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        service = grpc.method_handlers_generic_handler("inferencegw.v1.LLMReplica", {"Generate": handler})
        server = grpc.server(pool, handlers=[service], options=[("grpc.so_reuseport", 0)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait(PATIENCE)


async def test_grpcio_gets_its_tokens_over_tls(gateway: Identity) -> None:
    """A client that believes our authority needs nothing else; the handler sees that it showed no certificate."""
    replica = Replica()
    async with serving(replica, server_context(gateway.cert, gateway.key)) as port:
        with secure_channel(port, gateway) as channel:
            end = await finish(start_generate(channel, a_request(3)))
    assert (end.code, end.messages) == (grpc.StatusCode.OK, tokens(3))
    assert replica.calls[0].peer.certificate is None


async def test_a_handler_sees_the_certificate_that_grpcio_showed(gateway: Identity, client: Identity) -> None:
    """With mTLS the peer has a name."""
    replica = Replica()
    async with serving(replica, server_context(gateway.cert, gateway.key, client.ca)) as port:
        with secure_channel(port, gateway, shown=client) as channel:
            end = await finish(start_generate(channel, a_request(3)))
    assert (end.code, end.messages) == (grpc.StatusCode.OK, tokens(3))
    certificate = replica.calls[0].peer.certificate
    assert certificate is not None
    assert certificate["subjectAltName"] == (("DNS", "client.test"),)


@pytest.mark.parametrize("stranger", ["no certificate", "another authority's"])
async def test_a_client_without_the_right_certificate_never_reaches_a_handler(
    gateway: Identity, client: Identity, stranger: str
) -> None:
    """It is UNAVAILABLE for that client, and one that was let in before notices nothing."""
    replica = Replica()
    shown = None if stranger == "no certificate" else gateway
    async with serving(replica, server_context(gateway.cert, gateway.key, client.ca)) as port:
        with secure_channel(port, gateway, shown=client) as good, secure_channel(port, gateway, shown=shown) as bad:
            before = await finish(start_generate(good, a_request(1)))
            refused = await finish(start_generate(bad, a_request(2)))
            after = await finish(start_generate(good, a_request(3)))
    assert (refused.code, refused.messages) == (grpc.StatusCode.UNAVAILABLE, [])
    assert (before.messages, after.messages) == (tokens(1), tokens(3))
    assert [call.request.max_tokens for call in replica.calls] == [1, 3]


@pytest.mark.parametrize("offered", [[], ["http/1.1"]], ids=["nothing", "http/1.1"])
async def test_a_client_that_does_not_offer_h2_never_reaches_a_handler(gateway: Identity, offered: list[str]) -> None:
    """Its handshake succeeds, its request is good, and all that it gets is the end of the connection."""
    replica = Replica()
    context = ssl.create_default_context(cafile=str(gateway.ca))
    context.set_alpn_protocols(offered)
    async with serving(replica, server_context(gateway.cert, gateway.key)) as port:
        stream = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), context, server_hostname=HOST)
        await stream.do_handshake()
        peer = RawPeer(stream, is_client=True)
        with suppress(trio.BrokenResourceError):  # or an orderly end, depending on who is faster
            await peer.start()
            await ask(peer, 1, a_request(1))
            await peer.until_eof()
        await trio.aclose_forcefully(stream)
    assert (peer.frames, replica.calls) == ([], [])


async def test_a_client_that_speaks_in_the_clear_to_a_tls_port_never_reaches_a_handler(gateway: Identity) -> None:
    """A forgotten flag on the client's side: UNAVAILABLE, and the server goes on."""
    replica = Replica()
    async with serving(replica, server_context(gateway.cert, gateway.key)) as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as clear:
            refused = await finish(start_generate(clear, a_request(1)))
        with secure_channel(port, gateway) as channel:
            served = await finish(start_generate(channel, a_request(2)))
    assert (refused.code, served.messages) == (grpc.StatusCode.UNAVAILABLE, tokens(2))
    assert [call.request.max_tokens for call in replica.calls] == [2]


# Our channel, grpcio's server.


async def test_our_channel_gets_its_tokens_from_grpcio_over_mtls(gateway: Identity, client: Identity) -> None:
    """Each believes the other's authority and nobody else's."""
    context = client_context(gateway.ca, client.cert, client.key)
    with secure_grpcio_server(gateway, client) as port:
        assert await generate(port, context) == tokens(3)


async def generate(port: int, context: ssl.SSLContext) -> list[GenerateResponse]:
    """What our channel gets for ``a_request(3)``."""
    with trio.fail_after(PATIENCE):
        async with (
            open_channel("127.0.0.1", port, ssl_context=context, server_hostname=HOST) as channel,
            channel.open_stream(GENERATE, a_request(3)) as stream,
        ):
            return [message async for message in stream]


@pytest.mark.parametrize("shown", ["no certificate", "another authority's"])
async def test_our_channel_is_unavailable_where_grpcio_does_not_let_it_in(
    gateway: Identity, client: Identity, shown: str
) -> None:
    """In TLS 1.3 a client learns that its certificate is refused only after its own handshake."""
    identity = (None, None) if shown == "no certificate" else (gateway.cert, gateway.key)
    with secure_grpcio_server(gateway, client) as port, pytest.raises(ConnectionLost):
        await generate(port, client_context(gateway.ca, *identity))


async def test_our_channel_does_not_talk_to_a_server_of_another_authority(gateway: Identity, client: Identity) -> None:
    """Nothing is sent to it, and the error says why."""
    with secure_grpcio_server(gateway) as port, pytest.raises(ConnectionLost, match="certificate verify failed"):
        await generate(port, client_context(client.ca))


async def test_our_channel_does_not_talk_to_a_server_without_h2(gateway: Identity) -> None:
    """A TLS port that is no gRPC server's is said to be one, rather than fed with frames."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(gateway.cert, gateway.key)
    received = bytearray()
    over = trio.Event()

    async def serve_something_else(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError):  # the channel hangs up without a farewell
            async for data in stream:
                received.extend(data)
        await trio.aclose_forcefully(stream)
        over.set()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_ssl_over_tcp, serve_something_else, 0, context, host="127.0.0.1")
        )
        port = listeners[0].transport_listener.socket.getsockname()[1]
        with pytest.raises(ConnectionLost, match=r"did not negotiate HTTP/2"):
            await generate(port, client_context(gateway.ca))
        await over.wait()
        nursery.cancel_scope.cancel()
    assert received == b""
