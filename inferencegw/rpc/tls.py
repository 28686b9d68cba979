"""TLS for servers and clients: an ``ssl.SSLContext`` of the files an operator names, and a new certificate in it.

The rule: what RFC 9113 section 9.2 asks of HTTP/2 over TLS is all that can be negotiated: TLS 1.2 with an ephemeral key
exchange and an AEAD cipher, or TLS 1.3; no compression, no renegotiation; ALPN "h2" and nothing else, but for the port
of ``inferencegw.http``. A handshake with a peer that knows no ALPN succeeds all the same: a context cannot demand
it, so whoever uses one looks at ``selected_alpn_protocol()`` after the handshake.

Every problem with a file is a :class:`~inferencegw.errors.ConfigError` at start-up that names the file. OpenSSL says
"PEM lib" for most of them, so each file is tried by itself first. A certificate that is about to expire is replaced
while the process runs (:func:`renew`); another authority takes a restart, which a drain makes harmless: a context can
be made to believe one more, and never one less.
"""

import os
import ssl
from collections.abc import Callable, Iterable
from typing import NoReturn, TypeAlias

from inferencegw.errors import ConfigError

__all__ = ["client_context", "renew", "server_context"]

Path: TypeAlias = str | os.PathLike[str]

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
    _load_identity(context, cert, key)
    if ca is not None:
        _load_certificates(context, ca, "CA")
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
        _load_certificates(context, ca, "CA")
    if cert is not None and key is not None:
        _load_identity(context, cert, key)
    elif cert is not None:
        raise ConfigError(f"TLS certificate {cert}: cannot be shown to a server without its key")
    elif key is not None:
        raise ConfigError(f"TLS key {key}: is of no use without its certificate")
    return context


def renew(contexts: Iterable[ssl.SSLContext], cert: Path, key: Path) -> None:
    """Have ``contexts`` show what is in the files now, in handshakes to come; else ConfigError, and no change.

    Connections that are there go on with what they were begun with.
    """
    _load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)  # only to see whether they can be used
    for context in contexts:
        _load_identity(context, cert, key)


def _hardened(protocol: int, alpn: str) -> ssl.SSLContext:
    """A context without a certificate; ``ssl`` itself already rules compression out, and checks a server's name."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_TLS12_CIPHERS)
    context.set_alpn_protocols([alpn])
    return context


def _load_certificates(context: ssl.SSLContext, path: Path, role: str) -> None:
    """Make ``context`` trust what is in the file."""
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"TLS {role} {path}: holds no certificate in PEM form") from error
    except OSError as error:
        raise ConfigError(f"TLS {role} {path}: cannot be read: {error.strerror}") from error


def _load_identity(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Make ``context`` show the certificate in ``cert`` and sign with ``key``."""
    _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, "certificate")  # only to see whether it is one
    try:
        context.load_cert_chain(cert, key, password=_passphrase_of(key))
    except ssl.SSLError as error:
        raise ConfigError(f"TLS key {key}: {_problem(error, cert)}") from error
    except OSError as error:
        raise ConfigError(f"TLS key {key}: cannot be read: {error.strerror}") from error


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
