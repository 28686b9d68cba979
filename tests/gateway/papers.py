"""Certificates and keys as an operator has them: files, of an authority that is believed and of one that is not."""

import datetime as dt
import shutil
from pathlib import Path
from typing import Any, Final

import attrs
import grpc
import trustme

from inferencegw.policy.keys import KEY_BYTES, hash_of, key_text

__all__ = ["ADMIN", "CLIENT", "OTHER", "WRONG", "Papers", "keys_file"]

CLIENT, OTHER, ADMIN, WRONG = (key_text(bytes([number]) * KEY_BYTES) for number in range(4))

HOST: Final = "127.0.0.1"
NOW: Final = dt.datetime.now(dt.UTC)
DAY: Final = dt.timedelta(days=1)

VALIDITY: Final[dict[str, dict[str, Any]]] = {
    "good": {},
    "expired": {"not_before": NOW - 2 * DAY, "not_after": NOW - DAY},
    "early": {"not_before": NOW + DAY, "not_after": NOW + 2 * DAY},
}


@attrs.frozen
class Papers:
    """A folder of files, by names: ``ca``, ``good``, ``expired``, ``early``, ``misnamed``, and those of a stranger."""

    folder: Path

    @classmethod
    def issue(cls, folder: Path) -> "Papers":
        """Make all of them."""
        folder.mkdir(exist_ok=True)
        papers, ours, theirs = cls(folder), trustme.CA(), trustme.CA()
        ours.cert_pem.write_to_path(papers.path("ca"))
        theirs.cert_pem.write_to_path(papers.path("strange-ca"))
        for name, validity in VALIDITY.items():
            papers._write(name, ours.issue_cert(HOST, **validity))
        papers._write("misnamed", ours.issue_cert("elsewhere.test"))
        papers._write("stranger", theirs.issue_cert(HOST))
        return papers

    def path(self, name: str) -> str:
        """Where that one is."""
        return str(self.folder / f"{name}.pem")

    def server(self, name: str = "good", *, ca: bool = False) -> dict[str, Any]:
        """The options of a server that shows it; with ``ca`` it asks for those of its clients."""
        shown = {"tls_cert": self.path(name), "tls_key": self.path(f"{name}-key")}
        return {**shown, "tls_ca": self.path("ca")} if ca else shown

    def credentials(self, name: str | None = None, *, ca: str = "ca") -> grpc.ChannelCredentials:
        """Of a grpcio client that believes ``ca`` and shows certificate ``name``."""
        authority = Path(self.path(ca)).read_bytes()
        if name is None:
            return grpc.ssl_channel_credentials(authority)
        key, cert = Path(self.path(f"{name}-key")).read_bytes(), Path(self.path(name)).read_bytes()
        return grpc.ssl_channel_credentials(authority, key, cert)

    def spoil(self) -> None:
        """Have the good certificate be none any more."""
        Path(self.path("good")).write_text("half a certif")

    def replace(self, other: "Papers") -> None:
        """Have the good certificate be that of ``other``."""
        for name in ("good", "good-key"):
            shutil.copy(other.path(name), self.path(name))

    def _write(self, name: str, issued: trustme.LeafCert) -> None:
        issued.private_key_pem.write_to_path(self.path(f"{name}-key"))
        issued.cert_chain_pems[0].write_to_path(self.path(name))


def keys_file(path: Path, *keys: tuple[str, str | tuple[str, ...], str]) -> str:
    """A file with these: (name, key or keys, more lines)."""
    path.write_text("".join(f"[keys.{name}]\nsha256 = {_hashes(shown)}\n{more}\n" for name, shown, more in keys))
    return str(path)


def _hashes(shown: str | tuple[str, ...]) -> list[str]:
    return [hash_of(one).hex() for one in ((shown,) if isinstance(shown, str) else shown)]
