"""How an operator names a replica manager, and what is said of a name that cannot be used or does not answer."""

import builtins
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from inferencegw.errors import ConfigError, ManagerError
from inferencegw.gateway.managers import FORMS, open_manager
from inferencegw.rpc import serve
from inferencegw.rpc.health import HealthServicer, ServingStatus
from inferencegw.rpc.tls import client_context, server_context
from tests.gateway.papers import Papers


@pytest.mark.parametrize("spec", ["", "x", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "docker:x"])
def test_a_spec_of_no_known_form_is_one_line_with_the_forms_there_are(spec: str) -> None:
    """At once, before it is entered."""
    with pytest.raises(ConfigError) as caught:
        open_manager(spec)
    assert str(caught.value) == f"manager = {spec!r}: must be {FORMS}"


def test_kubernetes_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has to have it."""
    real_import = builtins.__import__

    def import_nothing_of_httpx2(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "httpx2":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_nothing_of_httpx2)
    monkeypatch.delitem(sys.modules, "inferencegw.gateway.managers.kubernetes", raising=False)
    with pytest.raises(ConfigError, match=r"needs httpx2: pip install 'inferencegw\[kubernetes\]'"):
        open_manager("kubernetes:default/llm?container=c&env=V")


async def test_an_address_where_nobody_is_says_so_before_anything_is_stopped() -> None:
    """With the address."""
    with trio.socket.socket() as socket:
        await socket.bind(("127.0.0.1", 0))
        port = socket.getsockname()[1]
        with pytest.raises(
            ManagerError, match=f"^127.0.0.1:{port} does not answer as a replica manager: cannot connect"
        ):
            async with open_manager(f"127.0.0.1:{port}"):
                pass


async def test_an_address_of_another_server_says_so_before_anything_is_stopped() -> None:
    """A gateway's, say: it is healthy, and no manager."""
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(partial(serve, [HealthServicer().service]))
        with pytest.raises(ManagerError, match=f"^{host}:{port} does not answer as a replica manager: "):
            async with open_manager(f"{host}:{port}"):
                pass
        nursery.cancel_scope.cancel()


async def test_a_manager_that_takes_no_orders_yet_says_so_before_anything_is_stopped() -> None:
    """Its cluster is on its way up, or down."""
    health = HealthServicer()
    health.set("inferencegw.v1.ReplicaManager", ServingStatus.NOT_SERVING)
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(partial(serve, [health.service]))
        with pytest.raises(ManagerError, match=f"^{host}:{port} does not take orders: its cluster is not up yet"):
            async with open_manager(f"{host}:{port}"):
                pass
        nursery.cancel_scope.cancel()


async def test_a_supervisor_with_an_authority_takes_orders_from_who_has_its_certificate(tmp_path: Path) -> None:
    """Over mutual TLS; in clear, or with a stranger's certificate, nothing is asked of it."""
    papers = Papers.issue(tmp_path)
    health = HealthServicer()
    health.set("inferencegw.v1.ReplicaManager", ServingStatus.SERVING)
    shown = server_context(*papers.server(ca=True).values())
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(partial(serve, [health.service], ssl_context=shown))
        ours, theirs = (
            client_context(papers.path("ca"), papers.path(name), papers.path(f"{name}-key"))
            for name in ("good", "stranger")
        )
        async with open_manager(f"{host}:{port}", tls=ours):
            pass
        for tls in (None, theirs):
            with pytest.raises(ManagerError, match=f"^{host}:{port} does not answer as a replica manager: "):
                async with open_manager(f"{host}:{port}", tls=tls):
                    pass
        nursery.cancel_scope.cancel()


async def test_an_order_that_cannot_be_passed_on_says_which_and_why() -> None:
    """Each has a connection of its own, so one that is lost in between is no matter; nobody there is one."""
    health = HealthServicer()
    health.set("inferencegw.v1.ReplicaManager", ServingStatus.SERVING)
    async with AsyncExitStack() as stack:
        async with trio.open_nursery() as serving:
            host, port = await serving.start(partial(serve, [health.service]))
            manager = await stack.enter_async_context(open_manager(f"{host}:{port}"))
            with pytest.raises(ManagerError, match=f"^cannot stop replica r1: manager {host}:{port}: unknown method"):
                await manager.stop("r1")
            serving.cancel_scope.cancel()
        with pytest.raises(ManagerError, match=f"^cannot start replica r1: manager {host}:{port}: cannot connect"):
            await manager.start("r1", "v2")
