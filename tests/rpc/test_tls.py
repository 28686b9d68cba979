"""TLS: what can be negotiated, who is believed, and what an operator is told about a bad file.

The handshakes are between two ``ssl.SSLObject`` in memory; test_tls_grpcio.py has those with sockets and grpcio.
"""

import pathlib
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from inferencegw.errors import ConfigError
from inferencegw.rpc.tls import MAX_FILE_BYTES, client_context, renew, server_context
from tests.rpc.identity import Identity


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """What the server shows."""
    return Identity.make(tmp_path_factory.mktemp("gateway"), "gateway.test")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """What a client shows."""
    return Identity.make(tmp_path_factory.mktemp("client"), "client.test")


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, *, name: str = "gateway.test"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after their handshake; the SSLError of the first that refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    )
    unfinished = list(ends)
    while unfinished:
        for end in list(unfinished):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(end)
    return ends


def plain_client(ca: pathlib.Path) -> ssl.SSLContext:
    """A client of somebody else's making: it believes ``ca`` and offers no ALPN."""
    return ssl.create_default_context(cafile=str(ca))


def test_two_ends_of_ours_speak_http_2_over_tls_1_3(gateway: Identity) -> None:
    """The ordinary case."""
    for end in shake_hands(server_context(gateway.cert, gateway.key), client_context(gateway.ca)):
        assert (end.selected_alpn_protocol(), end.version()) == ("h2", "TLSv1.3")


def test_tls_1_2_is_spoken_with_an_ephemeral_key_and_an_aead_cipher(gateway: Identity) -> None:
    """RFC 9113 section 9.2.2: nothing of its appendix A; a client that has nothing better is refused."""
    server, old = server_context(gateway.cert, gateway.key), client_context(gateway.ca)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    spoken = {cipher["name"] for cipher in server.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert spoken == {
        f"ECDHE-{signature}-{cipher}"
        for signature in ("ECDSA", "RSA")
        for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    }
    (end, _) = shake_hands(server, old)
    assert (end.selected_alpn_protocol(), end.version()) == ("h2", "TLSv1.2")
    old.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256")
    with pytest.raises(ssl.SSLError) as refusal:
        shake_hands(server, old)
    assert refusal.value.reason == "NO_SHARED_CIPHER"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_1_1_is_refused(gateway: Identity) -> None:
    """RFC 9113 section 9.2: TLS 1.2 or higher."""
    old = plain_client(gateway.ca)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError) as refusal:
        shake_hands(server_context(gateway.cert, gateway.key), old)
    assert refusal.value.reason == "UNSUPPORTED_PROTOCOL"


@pytest.mark.parametrize("make", [server_context, client_context], ids=["server", "client"])
def test_there_is_no_compression_and_no_renegotiation(gateway: Identity, make: Callable[..., ssl.SSLContext]) -> None:
    """RFC 9113 section 9.2.1 forbids both, at both ends."""
    forbidden = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    assert make(cert=gateway.cert, key=gateway.key).options & forbidden == forbidden


@pytest.mark.parametrize("offered", [[], ["http/1.1"]], ids=["nothing", "http/1.1"])
def test_a_client_that_does_not_offer_h2_is_found_out_after_the_handshake(
    gateway: Identity, offered: list[str]
) -> None:
    """OpenSSL lets such a handshake succeed, so that the server has to ask."""
    other = plain_client(gateway.ca)
    other.set_alpn_protocols(offered)
    (end, _) = shake_hands(server_context(gateway.cert, gateway.key), other)
    assert end.selected_alpn_protocol() is None


def test_a_client_refuses_a_server_of_another_authority(
    gateway: Identity, client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an authority given, no other counts, not even the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(gateway.ca))
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        shake_hands(server_context(gateway.cert, gateway.key), client_context(client.ca))


def test_a_client_refuses_a_server_of_another_name(gateway: Identity) -> None:
    """A certificate of the right authority is not enough."""
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server_context(gateway.cert, gateway.key), client_context(gateway.ca), name="replica.test")


def test_a_client_without_an_authority_asks_the_system_s(gateway: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with a public certificate needs no flag."""
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        shake_hands(server_context(gateway.cert, gateway.key), client_context())
    monkeypatch.setenv("SSL_CERT_FILE", str(gateway.ca))  # where OpenSSL is told where the system's are
    (end, _) = shake_hands(server_context(gateway.cert, gateway.key), client_context())
    assert end.selected_alpn_protocol() == "h2"


def test_mtls_tells_the_server_who_the_client_is(gateway: Identity, client: Identity) -> None:
    """With ``ca`` on the server both ends know each other."""
    server = server_context(gateway.cert, gateway.key, client.ca)
    (end, _) = shake_hands(server, client_context(gateway.ca, client.cert, client.key))
    certificate = end.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("DNS", "client.test"),)


def test_mtls_refuses_a_client_without_a_certificate(gateway: Identity, client: Identity) -> None:
    """It never gets past the handshake."""
    with pytest.raises(ssl.SSLError) as refusal:
        shake_hands(server_context(gateway.cert, gateway.key, client.ca), client_context(gateway.ca))
    assert refusal.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


def test_mtls_refuses_a_client_of_another_authority(
    gateway: Identity, client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that the whole system believes gets past the handshake."""
    monkeypatch.setenv("SSL_CERT_FILE", str(gateway.ca))
    server = server_context(gateway.cert, gateway.key, client.ca)
    with pytest.raises(ssl.SSLError) as refusal:
        shake_hands(server, client_context(gateway.ca, gateway.cert, gateway.key))
    assert refusal.value.reason == "CERTIFICATE_VERIFY_FAILED"


@pytest.fixture(scope="module")
def files(gateway: Identity, client: Identity, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory of good and bad files."""
    directory = tmp_path_factory.mktemp("files")
    good_key = gateway.key.read_bytes()
    private_key = serialization.load_pem_private_key(good_key, None)
    encrypted = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    contents = {
        "cert": gateway.cert.read_bytes(),
        "key": good_key,
        "other-key": client.key.read_bytes(),
        "encrypted-key": encrypted,
        "empty": b"",
        "long": gateway.cert.read_bytes() + b"#" * MAX_FILE_BYTES,
        "prose": b"-----BEGIN CERTIFICATE-----\nTo whom it may concern\n-----END CERTIFICATE-----\n",
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize(
    ("cert", "key", "ca", "problem"),
    [
        ("missing", "key", None, "TLS certificate {}/missing: cannot be read: No such file or directory"),
        ("empty", "key", None, "TLS certificate {}/empty: holds no certificate in PEM form"),
        ("prose", "key", None, "TLS certificate {}/prose: holds no certificate in PEM form"),
        ("key", "cert", None, "TLS certificate {}/key: holds no certificate in PEM form"),
        ("long", "key", None, "TLS certificate {}/long: is longer than 1048576 bytes"),
        ("cert", "missing", None, "TLS key {}/missing: cannot be read: No such file or directory"),
        ("cert", ".", None, "TLS key {}: cannot be read: Is a directory"),
        ("cert", "cert", None, "TLS key {0}/cert: holds no private key in PEM form"),
        ("cert", "other-key", None, "TLS key {0}/other-key: does not belong to certificate {0}/cert"),
        ("cert", "encrypted-key", None, "TLS key {}/encrypted-key: is encrypted; give one without a passphrase"),
        ("cert", "key", "missing", "TLS CA {}/missing: cannot be read: No such file or directory"),
        ("cert", "key", "long", "TLS CA {}/long: is longer than 1048576 bytes"),
        ("cert", "key", "key", "TLS CA {}/key: holds no certificate in PEM form"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_problem(
    files: pathlib.Path, cert: str, key: str, ca: str | None, problem: str
) -> None:
    """An operator's mistake is one line at start-up that says which file, and what is wrong with it; nobody is asked
    for a passphrase, since a server has no terminal.
    """
    with pytest.raises(ConfigError) as error:
        server_context(files / cert, files / key, ca and files / ca)
    assert str(error.value) == problem.format(files)


def test_a_client_s_certificate_and_key_go_together(gateway: Identity) -> None:
    """One without the other is a forgotten flag, not a client without a certificate."""
    with pytest.raises(
        ConfigError, match=r"^TLS certificate .*cert\.pem: cannot be shown to a server without its key$"
    ):
        client_context(cert=gateway.cert)
    with pytest.raises(ConfigError, match=r"^TLS key .*key\.pem: is of no use without its certificate$"):
        client_context(key=gateway.key)


def test_files_that_are_replaced_while_a_certificate_is_renewed_leave_no_context_without_its_key(
    client: Identity, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was tried is what is used, in every context; the next reload takes what is there then."""
    (tmp_path / "new").mkdir()
    old, new = Identity.make(tmp_path, "gateway.test"), Identity.make(tmp_path / "new", "gateway.test")
    servers = [server_context(old.cert, old.key) for _ in range(2)]
    load = ssl.SSLContext.load_cert_chain

    def load_while_somebody_copies(context: ssl.SSLContext, *args: Any, **options: Any) -> None:
        load(context, *args, **options)
        old.key.write_bytes(client.key.read_bytes())

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load_while_somebody_copies)
    old.cert.write_bytes(new.cert.read_bytes())
    old.key.write_bytes(new.key.read_bytes())
    renew(servers, old.cert, old.key)
    for server in servers:
        shake_hands(server, client_context(new.ca))
    with pytest.raises(ConfigError, match="does not belong to certificate"):
        renew(servers, old.cert, old.key)
    for server in servers:
        shake_hands(server, client_context(new.ca))
