"""A client's key: shown with every call, wherever that goes, and nowhere told."""

import anyio
import pytest

from inferencegw.client import AsyncClient, Client
from inferencegw.errors import ConfigError, RpcError, StatusCode
from inferencegw.rpc import ServerCall
from inferencegw.rpc.credentials import shown_key
from tests.client.support import answer, collect, gateway, run, tokens

KEY = "gwk_" + "a" * 43


async def want_a_key(call: ServerCall) -> None:
    """The script of a gateway that knows one key."""
    if shown_key(call.metadata) != KEY:
        metadata = (("gw-reason", "unknown_key"), ("grpc-retry-pushback-ms", "-1"))
        raise RpcError(StatusCode.UNAUTHENTICATED, "not known", metadata=metadata)
    await answer(call)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_every_call_of_a_client_shows_its_key(backend: str) -> None:
    """The second one on the same connection, too, and those of one with several gateways."""
    with gateway(want_a_key) as one, gateway(want_a_key) as two:

        async def main() -> None:
            async with AsyncClient(f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}", key=KEY) as client:
                for _ in range(2):
                    async with client.generate("p", max_tokens=2) as generation:
                        assert await collect(generation) == tokens(2)

        run(backend, main)


def test_the_blocking_client_shows_its_key() -> None:
    """As the other one does."""
    with (
        gateway(want_a_key) as one,
        Client(f"127.0.0.1:{one.port}", key=KEY) as client,
        client.generate("p", max_tokens=2) as generation,
    ):
        assert list(generation) == tokens(2)


def test_a_client_whose_key_is_not_taken_is_told_at_once_and_asks_nobody_else() -> None:
    """UNAUTHENTICATED is no fault of one gateway: the others have the same file."""
    with gateway(want_a_key) as one, gateway(want_a_key) as two:

        async def main() -> None:
            with anyio.fail_after(5):
                async with AsyncClient(f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}") as client:
                    with pytest.raises(RpcError) as caught:
                        async with client.generate("p", max_tokens=2) as generation:
                            await collect(generation)
            assert caught.value.code is StatusCode.UNAUTHENTICATED

        run("trio", main)
        assert len(one.calls) + len(two.calls) == 1


def test_a_key_that_cannot_be_one_is_refused_when_the_client_is_made() -> None:
    """And is not in the message."""
    with pytest.raises(ConfigError, match="must be what `trio-gw keys` has made") as caught:
        AsyncClient("127.0.0.1:1", key="my secret")
    assert "my secret" not in str(caught.value)
