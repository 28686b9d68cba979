"""TLS for servers and clients: an ``ssl.SSLContext`` of the files an operator names, and a new certificate in it.

The rule: what RFC 9113 section 9.2 asks of HTTP/2 over TLS is all that can be negotiated: TLS 1.2 with an ephemeral key
exchange and an AEAD cipher, or TLS 1.3; no compression, no renegotiation; ALPN "h2" and nothing else, but for the port
of ``inferencegw.http``. A handshake with a peer that knows no ALPN succeeds all the same: a context cannot demand
it, so whoever uses one looks at ``selected_alpn_protocol()`` after the handshake.

Every problem with a file is a :class:`~inferencegw.errors.ConfigError` at start-up that names the file. OpenSSL says
"PEM lib" for most of them, so each file is tried by itself first. A certificate that is about to expire is replaced
while the process runs (:func:`renew`); another authority takes a restart, which a drain makes harmless: a context can
be made to believe one more, and never one less.

A certificate and its key are read once, and what was read is tried and then used: somebody may be replacing the files
at that moment, and a context that was given one of them and refused the other shakes hands with nobody. OpenSSL takes
paths only, so it is shown a copy in memory.
"""

import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, TypeAlias

import attrs

from inferencegw.errors import ConfigError
from inferencegw.settings.files import PathLike, read_bounded

__all__ = ["client_context", "renew", "server_context"]

Path: TypeAlias = PathLike

MAX_FILE_BYTES: Final = 2**20
"""Longest file with certificates, or a key. High: memory, where a wrong file is named. Low: a system's authorities,
some hundred thousand bytes, do not fit."""

# Of TLS 1.2's suites, those RFC 9113 appendix A does not prohibit and every gRPC library speaks. TLS 1.3 has no others,
# and OpenSSL keeps its suites in another list.
_TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(
    cert: Path, key: Path, ca: Path | None = None, *, required: bool = True, alpn: str = "h2"
) -> ssl.SSLContext:
    """For a server that shows the certificate (chain) in ``cert``.

    With ``ca`` (mTLS) only clients whose certificate one of its authorities has signed get past the handshake; no other
    authority counts, not even those of the system. If it is not ``required``, those that show none do, too. ``alpn`` is
    the one protocol to speak.
    """
    context = _hardened(ssl.PROTOCOL_TLS_SERVER, alpn)
    _Identity.read(cert, key).show_in([context])
    if ca is not None:
        _believe(context, ca)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def client_context(ca: Path | None = None, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """For a client that believes servers signed by an authority in ``ca`` (None: by one of the system's).

    The server's name is always checked. ``cert`` and ``key`` are what it shows to a server that wants to know (mTLS).
    """
    context = _hardened(ssl.PROTOCOL_TLS_CLIENT, "h2")
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _believe(context, ca)
    if cert is not None and key is not None:
        _Identity.read(cert, key).show_in([context])
    elif cert is not None:
        raise ConfigError(f"TLS certificate {cert}: cannot be shown to a server without its key")
    elif key is not None:
        raise ConfigError(f"TLS key {key}: is of no use without its certificate")
    return context


def renew(contexts: Iterable[ssl.SSLContext], cert: Path, key: Path) -> None:
    """Have ``contexts`` show what is in the files now, in handshakes to come; else ConfigError, and no change.

    Connections that are there go on with what they were begun with.
    """
    _Identity.read(cert, key).show_in(contexts)


def _hardened(protocol: int, alpn: str) -> ssl.SSLContext:
    """A context without a certificate; ``ssl`` itself already rules compression out, and checks a server's name."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_TLS12_CIPHERS)
    context.set_alpn_protocols([alpn])
    return context


def _believe(context: ssl.SSLContext, ca: Path) -> None:
    """Make ``context`` trust the authorities in the file."""
    with _copy(_read("CA", ca)) as copy:
        _load_certificates(context, copy, f"CA {ca}")


def _load_certificates(context: ssl.SSLContext, copy: str, name: str) -> None:
    try:
        context.load_verify_locations(cafile=copy)
    except ssl.SSLError as error:
        raise ConfigError(f"TLS {name}: holds no certificate in PEM form") from error


@attrs.frozen
class _Identity:
    """A certificate chain and its key, as they were in two files."""

    cert: Path
    key: Path
    chain: bytes = attrs.field(repr=False)
    secret: bytes = attrs.field(repr=False)

    @classmethod
    def read(cls, cert: Path, key: Path) -> "_Identity":
        """Those of the files; ConfigError where one cannot be read."""
        return cls(cert, key, _read("certificate", cert), _read("key", key))

    def show_in(self, contexts: Iterable[ssl.SSLContext]) -> None:
        """Make ``contexts`` show the certificate and sign with the key; ConfigError, and no change, if they cannot."""
        with _copy(self.chain) as chain, _copy(self.secret) as secret:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            _load_certificates(trial, chain, f"certificate {self.cert}")
            try:
                for context in (trial, *contexts):
                    context.load_cert_chain(chain, secret, password=_passphrase_of(self.key))
            except ssl.SSLError as error:
                raise ConfigError(f"TLS key {self.key}: {_problem(error, self.cert)}") from error


def _read(role: str, path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except ConfigError as error:
        raise ConfigError(f"TLS {role} {path}: {error}") from error


@contextmanager
def _copy(data: bytes) -> Iterator[str]:
    """A path where ``data`` is, in memory and for this process alone."""
    with os.fdopen(os.memfd_create("pem"), "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _problem(error: ssl.SSLError, cert: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"does not belong to certificate {cert}"
    if error.reason:  # such as EE_KEY_TOO_SMALL
        return f"cannot be used with certificate {cert}: {error.reason}"
    return "holds no private key in PEM form"  # OpenSSL has no reason to give, only "PEM lib"


def _passphrase_of(key: Path) -> Callable[[], NoReturn]:
    """What OpenSSL calls for an encrypted key; without it, it would stop and ask on the terminal."""

    def refuse() -> NoReturn:
        raise ConfigError(f"TLS key {key}: is encrypted; give one without a passphrase")

    return refuse
