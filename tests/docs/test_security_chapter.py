"""docs/security.rst: its tables are the guard's, and its commands make what a cluster starts with."""

import re
import shlex
import shutil
import subprocess
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from inferencegw.cli.app import execute
from inferencegw.gateway.guard import NEEDS, read_keys
from inferencegw.membership.keys import read_keyring
from inferencegw.policy.access import Denial
from inferencegw.policy.keys import Role
from inferencegw.rpc.tls import client_context, server_context

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
BLOCK: Final = re.compile(r"^\.\. code-block:: sh\n((?:\n|   .*\n)+)", re.MULTILINE)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Prints what the chapter has."""
    monkeypatch.syspath_prepend(DOCS)
    return import_module("printed.guard")


def test_every_method_is_in_the_printed_table_and_every_reason_in_the_other(printed: ModuleType) -> None:
    """Once each; the two reflection services share a name."""
    methods = {"{}.{}".format(*path.rpartition(".")[2].split("/")) for path in NEEDS}
    assert sorted(re.findall(r"``(\w+\.\w+)``", printed.needs())) == sorted(methods)
    assert re.findall(r"- ``(\w+)``\n", printed.refusals()) == [
        cell
        for denial in (Denial.NO_KEY, Denial.UNKNOWN_KEY, Denial.REVOKED)
        for cell in (denial.value, "UNAUTHENTICATED")
    ] + ["not_admin", "PERMISSION_DENIED", "key_rate", "RESOURCE_EXHAUSTED", "key_concurrency", "RESOURCE_EXHAUSTED"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the chapter's commands are openssl's")
def test_what_the_chapters_commands_make_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys, of which one may give orders; certificates that prove each other; and a keyring."""
    monkeypatch.chdir(tmp_path)
    blocks = list(map(textwrap.dedent, BLOCK.findall((DOCS / "security.rst").read_text(encoding="utf-8"))))
    commands, *scripts = blocks
    for line in commands.strip().splitlines():
        command, _, file = line.partition(" >> ")
        assert execute(shlex.split(command)[1:]) == 0
        with Path(file).open("a", encoding="utf-8") as keys:
            keys.write(capsys.readouterr().out)
    subprocess.run(["/bin/sh", "-e", "-c", "".join(scripts)], check=True, capture_output=True)
    table = read_keys("keys.toml")
    assert [(key.name, key.role) for key in table.keys.values()] == [("alice", Role.CLIENT), ("operator", Role.ADMIN)]
    assert table.find_untrusted(Path("alice.key").read_text(encoding="ascii").strip()) is not None
    assert len(read_keyring("gossip.keys").keys) == 1
    server_context("gateway.pem", "gateway.key", "ca.pem")
    client_context("ca.pem", "gateway.pem", "gateway.key")
    verify = ["openssl", "verify", "-CAfile", "ca.pem", "-verify_ip", "127.0.0.1", "gateway.pem"]
    subprocess.run(verify, check=True, capture_output=True)
