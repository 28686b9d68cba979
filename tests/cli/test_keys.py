"""``trio-gw keys``: a key for its holder, and for the gateway what lets it in."""

import re
import stat
from pathlib import Path

import pytest

from inferencegw.cli.app import execute
from inferencegw.policy.keys import KeyTable, Role
from tests.cli.conftest import Command


async def test_the_first_line_is_the_key_and_the_rest_is_what_lets_it_in(command: Command) -> None:
    """With its limits; the two are not to be had from each other."""
    limits = ("--max-concurrent", "2", "--rate", "0.5", "--burst", "3")
    made = await command("keys", "team.a", "--role", "admin", *limits)
    assert (made.status, made.err) == (0, "")
    key, _, toml = made.out.partition("\n")
    found = KeyTable.parse(toml).find_untrusted(key)
    assert found is not None
    one, _ = found
    assert (one.name, one.role, one.max_concurrent, one.rate, one.burst) == ("team.a", Role.ADMIN, 2, 0.5, 3)
    assert key not in toml
    assert (await command("keys", "team.a")).out.partition("\n")[0] != key


async def test_a_key_can_go_into_a_file_of_its_own_and_the_lines_be_appended(command: Command, tmp_path: Path) -> None:
    """Readable by its owner only, and never over another one; standard output has nothing secret then."""
    path = tmp_path / "alice.key"
    first = await command("keys", "alice", "--secret-file", str(path))
    key = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = await command("keys", "alice", "--secret-file", str(path))
    assert (again.status, again.out, again.err) == (1, "", f"trio-gw: error: {path}: File exists\n")
    second = await command("keys", "bob", "--json", "--secret-file", str(tmp_path / "bob.key"))
    table = KeyTable.parse(first.out + second.document["toml"])
    assert table.find_untrusted(key) is not None
    assert key not in first.out
    assert (second.document["key"], second.document["name"]) == (None, "bob")


async def test_scripts_get_all_of_it_in_one_object(command: Command) -> None:
    """The key, its hash, and the lines."""
    made = (await command("keys", "alice", "--json")).document
    assert set(made) == {"name", "key", "sha256", "toml"}
    assert KeyTable.parse(made["toml"]).find_untrusted(made["key"]) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a b"], "keys.'a b': a name must be 1 to 64 letters, digits, dots, dashes and underscores"),
        (['a"]'], "keys.'a\"]': a name must be .*"),
        (["a", "--rate", "0"], "keys.a.rate = 0.0: must be a number from 0.001 to 1e.06"),
        (["a", "--rate", "inf"], "--rate inf: must be a number; leave it out where there is no limit"),
        (["a", "--burst", "3"], "keys.a.burst = 3: is of no use without a rate"),
        (["a", "--max-concurrent", "0"], "keys.a.max_concurrent = 0: must be a whole number from 1 to 1e.06"),
        (["a", "--role", "boss"], 'Invalid value "boss" for --role. Choose from: "client", "admin". See: .*'),
    ],
)
def test_what_a_gateway_would_not_take_is_not_made(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and no key."""
    assert execute(["keys", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(f"trio-gw: error: {message}\n", captured.err)
