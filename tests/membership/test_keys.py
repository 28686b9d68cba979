"""membership/keys.py: a bad file at the start is refused, a bad file later changes nothing."""

import base64
from pathlib import Path

import pytest
import structlog
import trio
from trio.testing import MockClock

from inferencegw.errors import ConfigError
from inferencegw.membership.keys import MAX_FILE_BYTES, RECHECK, KeyringFile, read_keyring

ONE, TWO = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def test_a_keyring_is_read_first_key_first(tmp_path: Path) -> None:
    """Base64, one a line; comments and empty lines are for people."""
    path = tmp_path / "keys"
    path.write_text(f"# since Monday\n{TWO}\n\n{ONE}  # until Friday\n")
    assert read_keyring(str(path)).keys == (b"\2" * 32, b"\1" * 32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "has 0 keys"),
        (b"c2hvcnQ=\n", "a key has 5 bytes: must have 32"),
        (b"!\n", "a line is not base64"),
        (b"\xff\xfe\n", "can't decode byte"),
        (ONE.encode() + b"\n" + b"#" * MAX_FILE_BYTES, f"is longer than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_a_file_without_keys_is_refused_by_its_name(tmp_path: Path, content: bytes | None, message: str) -> None:
    """The line says which file, and what is wrong with it; never what is in it."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_keyring(str(path))
    assert str(caught.value).startswith(f"keyring_file = {str(path)!r}: ")
    assert "c2hvcnQ" not in str(caught.value)


async def test_a_changed_file_changes_the_keys_and_a_broken_one_does_not(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """What was in force stays in force, and the log says so once."""
    path = tmp_path / "keys"
    path.write_text(ONE)
    keyring = read_keyring(str(path))

    def first_bytes() -> list[int]:
        return [key[0] for key in keyring.keys]

    nursery.start_soon(KeyringFile(str(path), keyring).follow)
    with structlog.testing.capture_logs() as lines:
        await trio.sleep(1.5 * RECHECK)
        assert first_bytes() == [1]
        path.write_text(f"{TWO}\n{ONE}")
        await trio.sleep(RECHECK)
        assert first_bytes() == [2, 1]
        path.write_text("half a k")
        await trio.sleep(5 * RECHECK)
        assert first_bytes() == [2, 1]
        path.write_text(TWO)
        await trio.sleep(RECHECK)
        assert first_bytes() == [2]
    assert [line["event"] for line in lines] == ["keyring changed", "keyring not changed", "keyring changed"]
    nursery.cancel_scope.cancel()
