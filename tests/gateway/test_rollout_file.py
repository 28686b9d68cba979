"""gateway/rollout_file.py: a file that is whole or not there, in a directory that is nobody else's."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from inferencegw.config import GatewayConfig
from inferencegw.errors import ConfigError
from inferencegw.gateway import Gateway
from inferencegw.gateway.rollout_file import RolloutFile, RolloutState
from inferencegw.gateway.tally import Count

STATE = RolloutState(
    version="v2",
    targets={"r1": "v3"},
    before={"r1": "v1"},
    only=("r1",),
    drain_timeout=1.0,
    rejoin_timeout=2.0,
    manager="127.0.0.1:9",
    phase="drain",
    in_hand="r1",
    reason="because",
    began_at_ms=5,
    counts={"g1": Count(1, 2, 3, 4, 5)},
)


@pytest.fixture
def file(tmp_path: Path) -> RolloutFile:
    """In a directory that is to be made."""
    file = RolloutFile(str(tmp_path / "state"))
    file.prepare()
    return file


def modes(directory: str) -> dict[str, int]:
    """Who may do what with the directory, and with each file in it."""
    paths = [Path(directory), *Path(directory).iterdir()]
    return {path.name: path.stat().st_mode & 0o777 for path in paths}


def open_up(directory: str, mode: int) -> None:
    """Let others in."""
    Path(directory).chmod(mode)


async def test_what_was_saved_is_loaded_and_replaces_what_was_there(file: RolloutFile) -> None:
    """The directory was made, for us alone; nothing is left beside the file."""
    assert await file.load() is None
    await file.save(RolloutState(version="v1"))
    await file.save(STATE)
    assert await file.load() == STATE
    assert modes(file.directory) == {"state": 0o700, "rollout.json": 0o600}


async def test_without_a_directory_nothing_is_kept() -> None:
    """Nor is anything made."""
    file = RolloutFile("")
    file.prepare()
    await file.save(STATE)
    assert await file.load() is None


async def test_the_disk_is_waited_for_in_a_thread(file: RolloutFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go on meanwhile."""
    where: list[bool] = []
    monkeypatch.setattr("os.fsync", lambda _: where.append(threading.current_thread() is threading.main_thread()))
    await file.save(STATE)
    assert where == [False, False]


async def test_a_file_that_cannot_be_written_leaves_the_one_that_was_there(
    file: RolloutFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced as a whole, or not at all: a full disk breaks no resume."""
    await file.save(STATE)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match=r"rollout\.json cannot be written: No space left on device"):
        await file.save(RolloutState(version="v9"))
    assert await file.load() == STATE
    assert modes(file.directory) == {"state": 0o700, "rollout.json": 0o600}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": "v2"}', '{"counts": {}, "x": 1}', '{"counts": 1}'])
async def test_a_file_that_is_not_ours_is_an_error_that_says_what_to_do(text: str, file: RolloutFile) -> None:
    """It names the file."""
    (Path(file.directory) / "rollout.json").write_text(text)
    with pytest.raises(ConfigError, match=r"rollout\.json is not what a rollout has written: remove it"):
        await file.load()


@pytest.mark.parametrize("what", ["link", "pipe", "directory"])
async def test_nothing_is_followed_and_nothing_is_waited_for(what: str, file: RolloutFile, tmp_path: Path) -> None:
    """What is no file is not read; a link or a pipe is replaced, and what it leads to is left alone."""
    path, precious = Path(file.directory) / "rollout.json", tmp_path / "precious"
    precious.write_text("mine")
    makes: dict[str, Any] = {"link": lambda: path.symlink_to(precious), "pipe": lambda: os.mkfifo(path)}
    makes.get(what, path.mkdir)()
    with pytest.raises(ConfigError, match=r"rollout\.json cannot be read: "):
        await file.load()
    if what == "directory":
        with pytest.raises(ConfigError, match=r"rollout\.json cannot be written: Is a directory"):
            await file.save(STATE)
        return
    await file.save(STATE)
    assert (precious.read_text(), await file.load()) == ("mine", STATE)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
async def test_what_others_could_write_to_is_no_place_for_a_state(mode: int, file: RolloutFile) -> None:
    """Nothing is written there, and nothing that is there is believed."""
    await file.save(STATE)
    open_up(file.directory, mode)
    for use in (file.load, lambda: file.save(STATE)):
        with pytest.raises(ConfigError, match="must be a directory that only the gateway's user may write to"):
            await use()


@pytest.mark.parametrize("of_what", ["the directory", "the file"])
async def test_what_belongs_to_somebody_else_is_not_believed(
    of_what: str, file: RolloutFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever could put it there could have any version rolled out."""
    await file.save(STATE)
    us, asked = os.geteuid(), iter([True, False] if of_what == "the file" else [False, False])
    monkeypatch.setattr("os.geteuid", lambda: us if next(asked) else us + 1)
    with pytest.raises(ConfigError):
        await file.load()


def test_a_link_is_no_directory_of_ours(tmp_path: Path) -> None:
    """Nor is anything made where it leads."""
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be used: Not a directory"):
        RolloutFile(str(tmp_path / "state")).prepare()
    assert not (tmp_path / "elsewhere").exists()


def test_a_gateway_whose_directory_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    """Its operator is told before any rollout is begun."""
    with pytest.raises(ConfigError, match=r"state_dir = .*cannot be used: No such file or directory"):
        Gateway(GatewayConfig(state_dir=str(tmp_path / "no" / "state")))
