"""gateway/rollout_order.py: what may be asked for, and a file that is whole or not there."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from inferencegw.errors import ConfigError, RpcError, StatusCode
from inferencegw.gateway.rollout_order import RolloutOrder, RolloutState, load_state, save_state
from inferencegw.gateway.tally import Count
from inferencegw.v1.admin_pb2 import RolloutRequest


def test_what_is_not_said_is_as_the_proto_has_it() -> None:
    """Thirty seconds to drain, ten to come back."""
    assert RolloutOrder.of(RolloutRequest(model_version="v2")) == RolloutOrder(
        version="v2", drain_timeout=30.0, rejoin_timeout=10.0
    )
    zero = RolloutOrder.of(RolloutRequest(model_version="v2", drain_timeout=0.0, max_unavailable=1))
    assert zero.drain_timeout == 0.0


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "model_version is empty; only resume and rollback may leave it out, where state_dir knows it"),
        ({"state_dir": "d"}, "model_version is empty; "),
        ({"resume": True}, "model_version is empty; "),
        ({"model_version": "v" * 65}, "model_version is too long; it must be 1 to 64 bytes long"),
        (
            {"model_version": "v2", "max_unavailable": 2},
            "max_unavailable is 2; it must be 1: one replica is out at a time",
        ),
        ({"model_version": "v2", "resume": True, "rollback": True}, "resume and rollback are both set; "),
        ({"model_version": "v2", "drain_timeout": -1.0}, "drain_timeout is -1; it must be from 0 to 3600 (seconds)"),
        ({"model_version": "v2", "drain_timeout": math.nan}, "drain_timeout is nan; "),
        ({"model_version": "v2", "rejoin_timeout": 0.0}, "rejoin_timeout is 0; it must be from 0.1 to 3600 (seconds)"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], problem: str) -> None:
    """INVALID_ARGUMENT, before anything is done."""
    with pytest.raises(RpcError) as caught:
        RolloutOrder.of(RolloutRequest(**fields))
    assert caught.value.code is StatusCode.INVALID_ARGUMENT
    assert caught.value.message.startswith(problem)


STATE = RolloutState(
    version="v2",
    targets={"r1": "v3"},
    before={"r1": "v1"},
    phase="drain",
    in_hand="r1",
    reason="because",
    done=["r0"],
    began_at_ms=5,
    counts={"g1": Count(1, 2, 3, 4, 5)},
)


def test_what_was_saved_is_loaded_and_replaces_what_was_there(tmp_path: Path) -> None:
    """The directory is made; nothing is left beside the file."""
    directory = tmp_path / "new" / "one"
    assert load_state(str(directory)) is None
    save_state(str(directory), RolloutState(version="v1"))
    save_state(str(directory), STATE)
    assert load_state(str(directory)) == STATE
    assert [path.name for path in directory.iterdir()] == ["rollout.json"]


def test_a_file_that_cannot_be_written_leaves_the_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced as a whole, or not at all: a full disk breaks no resume."""
    save_state(str(tmp_path), STATE)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        save_state(str(tmp_path), RolloutState(version="v9"))
    assert load_state(str(tmp_path)) == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["rollout.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": "v2"}', '{"counts": {}, "x": 1}', '{"counts": 1}'])
def test_a_file_that_is_not_ours_is_an_error_that_says_what_to_do(text: str, tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / "rollout.json").write_text(text)
    with pytest.raises(ConfigError, match=r"rollout\.json is not what a rollout has written: remove it"):
        load_state(str(tmp_path))


def test_a_directory_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Not as if there were nothing in it."""
    (tmp_path / "rollout.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_state(str(tmp_path))


def test_what_others_could_write_to_is_no_place_for_a_state(tmp_path: Path) -> None:
    """Who names the directory need not be who owns it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigError, match="only the gateway's user may write to"):
        save_state(str(shared), STATE)
    assert list(shared.iterdir()) == []


def test_nothing_is_followed_and_nothing_is_waited_for(tmp_path: Path) -> None:
    """A link is replaced and its target left alone; a link or a pipe is not read."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "rollout.json").symlink_to(precious)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_state(str(tmp_path))
    save_state(str(tmp_path), STATE)
    assert (precious.read_text(), load_state(str(tmp_path))) == ("mine", STATE)
    (tmp_path / "rollout.json").unlink()
    os.mkfifo(tmp_path / "rollout.json")
    with pytest.raises(ConfigError, match="is not what a rollout has written"):
        load_state(str(tmp_path))
