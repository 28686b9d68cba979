"""client/blocking.py: the same generations from ordinary threads, against a gateway on a thread of its own."""

import contextlib
import inspect
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from inferencegw.client import AsyncClient, Client
from inferencegw.errors import ConfigError, ConnectionLost, RpcError, StatusCode
from tests.client.support import (
    PATIENCE,
    answer,
    digest,
    facts,
    gateway,
    grpcio_gateway,
    messages,
    sends,
    tokens,
    trailers,
    wait_for_ever,
)


def test_every_token_comes_once_and_in_order_with_what_is_known_of_the_generation() -> None:
    """As the asynchronous one; text is any Unicode."""
    with gateway() as server, Client(server.address, client_id="me") as client:
        with client.generate("p", max_tokens=10) as generation:
            assert list(generation) == tokens(10)
        texts = [token.text for token in tokens(10)]
        assert facts(generation) == ("the-request", 10, digest(texts), 10, 1, "length", tokens(10)[-1].usage, "")
        assert generation.trailing_metadata == tuple(trailers(messages(server.calls[0].request)))
        assert server.calls[0].request.client_id == "me"


def test_a_grpcio_gateway_serves_as_well() -> None:
    """The independent other end."""
    with grpcio_gateway() as address, Client(address) as client, client.generate("p", max_tokens=100) as generation:
        assert list(generation) == tokens(100)


@pytest.mark.parametrize("received", [0, 3])
def test_leaving_a_generation_early_cancels_it_at_the_gateway(received: int) -> None:
    """By whatever way; and the next one works on the same connection."""
    with gateway(sends(5)) as server, Client(server.address) as client:
        with contextlib.suppress(ZeroDivisionError), client.generate("p", max_tokens=10) as generation:
            assert [next(generation) for _ in range(received)] == tokens(10)[:received]
            server.until(lambda: len(server.calls) == 1)
            raise ZeroDivisionError
        server.until(lambda: server.cancelled == 1)
        assert generation.next_index == received
        server.script = answer
        with client.generate("p") as generation:
            assert list(generation) == tokens(16)
        assert len({call.peer for call in server.calls}) == 1


def test_errors_come_out_as_they_are() -> None:
    """Of the call, of the connection, of the arguments; never in a group."""
    with gateway(sends(3)) as server:
        with Client(server.address) as client:
            with client.generate("p", timeout=0.1) as generation, pytest.raises(RpcError) as late:
                list(generation)
            assert late.value.code is StatusCode.DEADLINE_EXCEEDED
            assert generation.delivered == 3
            with pytest.raises(ConfigError, match="hedge = 'x'"):
                client.generate("p", hedge="x")  # type: ignore[arg-type]
            with client.generate("p") as generation:
                assert [next(generation) for _ in range(3)] == tokens(16)[:3]
                server.stop()
                for _ in range(2):
                    with pytest.raises(ConnectionLost):
                        next(generation)
            with pytest.raises(ConnectionLost, match="cannot connect"), client.generate("p"):
                pass
        with pytest.raises(ConnectionLost, match="cannot connect"), Client(server.address):
            pass
    with pytest.raises(ConfigError, match="address = ''"):
        Client("")


def test_several_threads_may_generate_with_one_client() -> None:
    """Each its own generations, all over one connection."""

    def generate(count: int) -> bool:
        with client.generate("p", max_tokens=count) as generation:
            return list(generation) == tokens(count)

    with gateway() as server, Client(server.address) as client, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(generate, range(1, 51)))
        assert len({call.peer for call in server.calls}) == 1


def test_ctrl_c_while_waiting_for_a_token_leaves_cleanly() -> None:
    """KeyboardInterrupt comes out as it is, the gateway's call is cancelled, and the client goes on."""

    def interrupt() -> None:
        server.until(lambda: len(server.calls) == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with gateway(wait_for_ever) as server, Client(server.address) as client, ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt), client.generate("p") as generation:
            next(generation)
        server.until(lambda: server.cancelled == 1)
        server.script = answer
        with client.generate("p") as generation:
            assert list(generation) == tokens(16)


def test_ctrl_c_ends_the_clients_block_as_well() -> None:
    """Nobody catches it between: the thread behind the client ends, though a call was waiting there."""

    def interrupt() -> None:
        server.until(lambda: len(server.calls) == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with gateway(wait_for_ever) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt)
        before = threading.active_count()
        with pytest.raises(KeyboardInterrupt), Client(server.address) as client, client.generate("p") as generation:
            next(generation)
        server.until(lambda: server.cancelled == 1)
        assert threading.active_count() <= before


def test_leaving_the_client_ends_the_generations_of_other_threads() -> None:
    """They are told, whether they wait or not, and leave as they would have; nobody waits for ever."""
    left = threading.Event()

    def generate(*, when: threading.Event | None = None) -> type[RpcError]:
        with client.generate("p") as generation:
            if when is not None:
                assert when.wait(PATIENCE)
            with pytest.raises(RpcError) as raised:
                next(generation)
        return type(raised.value)

    with gateway(wait_for_ever) as server, ThreadPoolExecutor(2) as pool:
        with Client(server.address) as client:
            ends = [pool.submit(generate), pool.submit(generate, when=left)]
            server.until(lambda: len(server.calls) == 2)
        left.set()
        assert [end.result() for end in ends] == [ConnectionLost] * 2


def test_a_generation_needs_its_clients_block() -> None:
    """Before and after it there is no thread to do the work."""
    with gateway() as server:
        client = Client(server.address)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="in the client's block"):
                client.generate("p")
            with client, client.generate("p") as generation:
                assert list(generation) == tokens(16)


def test_the_blocking_names_take_what_the_asynchronous_ones_take() -> None:
    """An option added to one is in the other."""
    assert inspect.signature(Client.generate).parameters == inspect.signature(AsyncClient.generate).parameters
    assert inspect.signature(Client) == inspect.signature(AsyncClient)
