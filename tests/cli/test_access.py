"""What lets a command in: its key and its certificate, against a gateway that asks for them."""

from pathlib import Path
from typing import Final

import pytest

from inferencegw.cli.app import execute
from tests.cli.conftest import Command
from tests.cli.support import a_cluster, a_replica
from tests.gateway.papers import ADMIN, CLIENT, WRONG, Papers, keys_file


@pytest.fixture(autouse=True)
def no_key_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have one."""
    monkeypatch.delenv("TRIO_GW_KEY", raising=False)


# What each command is told by a gateway that has let it in; nothing where it does what it was asked.
LOOKS: Final = {
    ("members",): "",
    ("status",): "",
    ("ring",): "",
    ("why", "x"): "NOT_FOUND: no call 'x' is remembered",
    ("generate", "hello", "--max-tokens", "2"): "",
}
ORDERS: Final = {
    ("drain", "r1"): "",
    ("undrain", "r1"): "",
    ("rollout", "--version", "v2", "--dry-run"): "",
}


async def test_every_command_gets_in_with_its_key_over_tls_and_none_without(command: Command, tmp_path: Path) -> None:
    """Orders want an admin's key; whoever is not let in is told why, on one line."""
    papers = Papers.issue(tmp_path)
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""), ("root", ADMIN, 'role = "admin"'))
    for name, key in {"client": CLIENT, "admin": ADMIN, "wrong": WRONG}.items():
        (tmp_path / name).write_text(f"{key}\n")
    async with a_cluster(a_replica("r1"), keys_file=path, gossip_port=0, **papers.server()) as cluster:

        async def error(arguments: tuple[str, ...], *, key: str = "", ca: str = "ca") -> str:
            shown = ("--key-file", str(tmp_path / key)) if key else ()
            result = await command(*arguments, "--gateway", cluster.address, "--tls-ca", papers.path(ca), *shown)
            assert result.status == (1 if result.err else 0)
            return result.err.removeprefix("trio-gw: error: ")

        for line in ("status", "generate hello", "drain r1"):
            assert "a key is needed" in await error(tuple(line.split()))
        for arguments, answer in LOOKS.items():
            assert (await error(arguments, key="client"))[: len(answer) or None] == answer
        for arguments, answer in ORDERS.items():
            assert (await error(arguments, key="admin"))[: len(answer) or None] == answer
        assert "only the holder of an admin key may do this" in await error(("drain", "r1"), key="client")
        assert "this key is not known here" in await error(("status",), key="wrong")
        assert "certificate verify failed" in await error(("status",), key="client", ca="strange-ca")
        clear = await command("status", "--gateway", cluster.address, "--key-file", str(tmp_path / "client"))
        assert (clear.status, clear.err[:27]) == (1, "trio-gw: error: UNAVAILABLE")


async def test_the_environments_key_is_shown_where_no_file_is_named(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file goes before it."""
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""))
    (tmp_path / "wrong").write_text(WRONG)
    async with a_cluster(a_replica("r1"), keys_file=path) as cluster:
        monkeypatch.setenv("TRIO_GW_KEY", CLIENT)
        assert (await command("status", "--gateway", cluster.address)).status == 0
        assert (await command("generate", "p", "--gateway", cluster.address)).status == 0
        named = await command("status", "--gateway", cluster.address, "--key-file", str(tmp_path / "wrong"))
        assert (named.status, "this key is not known" in named.err) == (1, True)


async def test_a_certificate_opens_a_door_that_asks_for_one(command: Command, tmp_path: Path) -> None:
    """Mutual TLS from the command line, and none without."""
    papers = Papers.issue(tmp_path)
    async with a_cluster(**papers.server(ca=True)) as cluster:
        ca = ("--gateway", cluster.address, "--tls-ca", papers.path("ca"))
        shown = ("--tls-cert", papers.path("good"), "--tls-key", papers.path("good-key"))
        assert (await command("status", *ca, *shown)).status == 0
        assert (await command("status", *ca)).status == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--key-file", "none.key"), 2, "key_file = 'none.key': cannot be read: No such file or directory"),
        (("--key-file", "empty.key"), 2, "key_file = 'empty.key': must hold a key, as `trio-gw keys` makes one"),
        (("--key-file", "binary.key"), 2, "key_file = 'binary.key': 'utf-8' codec can't decode byte 0xff in .*"),
        (("--key-file", "long.key"), 2, "key_file = 'long.key': is longer than 4096 bytes"),
        (("--key-file", "two.key"), 2, "key: must be what `trio-gw keys` has made, and nothing else"),
        (("--tls-cert", "c.pem"), 2, "tls_ca: must be given with tls_cert and tls_key: a file, or 'system'"),
        (("--tls-ca", "system", "--tls-cert", "empty.key"), 2, "TLS certificate empty.key: cannot be shown to a .*"),
        (("--tls-ca", "empty.key"), 2, "TLS CA empty.key: holds no certificate in PEM form"),
    ],
)
@pytest.mark.parametrize("name", ["status", "generate"])
def test_a_file_that_is_of_no_use_is_said_before_anything_is_sent(
    name: str,
    arguments: tuple[str, ...],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line with its name; not a word of what is in it."""
    monkeypatch.chdir(tmp_path)
    long = CLIENT.encode() + b"\n" * 4096  # whose first 4096 bytes are a key and nothing else
    files = {"empty": b"", "binary": b"\xff", "two": b"gwk_a\ngwk_b\n", "long": long}
    for file, content in files.items():
        Path(f"{file}.key").write_bytes(content)
    prompt = ("p",) if name == "generate" else ()
    assert execute([name, *prompt, *arguments]) == status
    error = capsys.readouterr().err
    assert error.startswith(f"trio-gw: error: {message.removesuffix('.*')}")
    assert "gwk_" not in error
