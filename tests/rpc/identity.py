"""Certificates for the TLS tests, as the files that an operator would name."""

import pathlib

import attrs
import trustme


@attrs.frozen
class Identity:
    """A certificate and its key, and the authority that signed it."""

    cert: pathlib.Path
    key: pathlib.Path
    ca: pathlib.Path

    @classmethod
    def make(cls, directory: pathlib.Path, host: str) -> "Identity":
        """Issue a certificate for ``host`` under an authority of its own."""
        identity = cls(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")
        authority = trustme.CA()
        issued = authority.issue_cert(host)
        identity.cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(identity.key)
        authority.cert_pem.write_to_path(identity.ca)
        return identity
