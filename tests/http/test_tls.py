"""The port over TLS: which certificates are shown, asked for and believed, and who comes in without one."""

import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from inferencegw.rpc.tls import client_context
from tests.gateway.papers import ADMIN, CLIENT, Papers, keys_file
from tests.http.support import PATIENCE, Front, a_front


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of ours and of a stranger's."""
    return Papers.issue(tmp_path_factory.mktemp("papers"))


def shows(papers: Papers, name: str | None = None, *, ca: str = "ca") -> ssl.SSLContext:
    """A client that believes ``ca``, and shows that certificate."""
    shown = () if name is None else (papers.path(name), papers.path(f"{name}-key"))
    context = client_context(papers.path(ca), *shown)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def get(front: Front, path: str, tls: ssl.SSLContext, **headers: str) -> tuple[int, str]:
    """The status of the answer, and the protocol that it came in."""
    url = f"https://127.0.0.1:{front.http[1]}"
    async with (
        httpx2.AsyncClient(base_url=url, verify=tls, timeout=PATIENCE) as client,
        client.stream("GET", path, headers=headers) as answer,
    ):
        return answer.status_code, answer.http_version


async def distrusts(front: Front, tls: ssl.SSLContext) -> bool:
    """Whether such a client breaks off because of the certificate that it is shown."""
    async with await trio.open_tcp_stream(*front.http) as stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await trio.SSLStream(stream, tls, server_hostname="127.0.0.1").do_handshake()
    return isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_with_a_certificate_the_port_speaks_tls_and_nothing_else(papers: Papers) -> None:
    """HTTP/1.1 of what is offered; who speaks in clear has no answer, and who trusts another authority asks nothing."""
    async with a_front(**papers.server()) as front:
        assert await get(front, "/healthz", shows(papers)) == (200, "HTTP/1.1")
        assert (await get(front, "/events", shows(papers)))[0] == 200  # from the same machine
        with pytest.raises(httpx2.TransportError):
            await front.get("/healthz")
        assert await distrusts(front, shows(papers, ca="strange-ca"))


async def test_with_an_authority_who_looks_needs_a_certificate_and_who_scrapes_needs_none(papers: Papers) -> None:
    """The machine that it comes from counts no more; with one any name will do, for TLS has looked at it."""
    async with a_front(**papers.server(ca=True)) as front:
        for path in ("/metrics", "/healthz", "/"):
            assert (await get(front, path, shows(papers)))[0] == 200
        assert (await get(front, "/readyz", shows(papers)))[0] == 503  # it has no replica
        assert (await get(front, "/events", shows(papers)))[0] == 403
        assert (await get(front, "/events", shows(papers, "good")))[0] == 200
        assert (await get(front, "/events", shows(papers, "good"), host="gateway.test"))[0] == 200


@pytest.mark.parametrize("name", ["stranger", "expired"])
async def test_a_certificate_that_is_not_believed_opens_nothing(papers: Papers, name: str) -> None:
    """Not even what is there without one: it ends the handshake."""
    async with a_front(**papers.server(ca=True)) as front:
        with pytest.raises(httpx2.TransportError):
            await get(front, "/healthz", shows(papers, name))
        assert (await get(front, "/healthz", shows(papers)))[0] == 200


@pytest.mark.parametrize(
    ("owners", "by_certificate"), [([("alice", CLIENT, "")], 200), ([("root", ADMIN, 'role = "admin"')], 401)]
)
async def test_a_certificate_stands_for_a_key_as_by_grpc(
    papers: Papers, tmp_path: Path, owners: list[Any], by_certificate: int
) -> None:
    """Until there is an admin key; a key needs no certificate here."""
    keys = keys_file(tmp_path / "keys.toml", *owners)
    async with a_front(**papers.server(ca=True), keys_file=keys) as front:
        key = f"Bearer {owners[0][1]}"
        assert (await get(front, "/events", shows(papers)))[0] == 401
        assert (await get(front, "/events", shows(papers, "good")))[0] == by_certificate
        assert (await get(front, "/events", shows(papers), authorization=key))[0] == 200


async def test_a_renewed_certificate_is_shown_after_a_reload(tmp_path: Path) -> None:
    """To who connects from then on; one that cannot be used changes nothing."""
    old, new = Papers.issue(tmp_path / "old"), Papers.issue(tmp_path / "new")
    before, after = shows(old), shows(new)
    with trio.fail_after(PATIENCE):
        async with a_front(**old.server()) as front:
            assert (await get(front, "/healthz", before))[0] == 200
            old.replace(new)
            front.gateway.reload()
            assert (await get(front, "/healthz", after))[0] == 200
            assert await distrusts(front, before)
            old.spoil()
            front.gateway.reload()
            assert (await get(front, "/healthz", after))[0] == 200
