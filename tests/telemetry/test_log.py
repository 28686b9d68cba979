"""What the log promises: one event a line, no user's text, no forged lines."""

import io
import json
import re
from collections.abc import Iterator

import pytest
import structlog
import trio

from inferencegw.errors import ConfigError
from inferencegw.telemetry.log import LEVELS, configure_logging, name_call, set_level
from inferencegw.v1 import gateway_pb2

SECRET = "my secret question"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes, at level info; structlog is as it was afterwards."""
    before = structlog.get_config()
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    yield stream
    structlog.configure(**before)


def test_an_event_is_one_line_of_key_value_pairs_with_level_logger_and_event_first(stream: io.StringIO) -> None:
    """Time first, then level, logger, event, then the fields in the order they were given."""
    logger = "inferencegw.gateway.pool"
    structlog.get_logger(logger).info("replica connected", address="127.0.0.1:50051", tries=3, ok=True)
    time, rest = stream.getvalue().split(" ", 1)
    assert re.fullmatch(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", time)
    assert rest == f'level=info logger={logger} event="replica connected" address=127.0.0.1:50051 tries=3 ok=true\n'


def test_a_traceback_is_still_one_line(stream: io.StringIO) -> None:
    """Line breaks are escaped, so that what reads logs by the line sees one event."""
    try:
        raise ValueError("first\nsecond\rthird")
    except ValueError:
        structlog.get_logger().exception("it went wrong")
    assert stream.getvalue().count("\n") == 1
    assert "\\nValueError: first\\nsecond" in stream.getvalue()


@pytest.mark.parametrize("field", ["prompt", "text", "resume_text", "generated_text"])
@pytest.mark.parametrize("value", [SECRET, SECRET.encode()])
def test_what_a_user_wrote_is_logged_by_its_size_only(stream: io.StringIO, field: str, value: str | bytes) -> None:
    """Fields named as those of the protos that carry text never show it."""
    structlog.get_logger().info("request", **{field: value})
    assert SECRET not in stream.getvalue()
    assert f'{field}="<{len(SECRET)} withheld>"' in stream.getvalue()


def test_a_message_is_logged_by_its_type_only(stream: io.StringIO) -> None:
    """The repr of a protobuf message is its content, the prompt included."""
    structlog.get_logger().info("request", request=gateway_pb2.InferRequest(prompt=SECRET))
    assert SECRET not in stream.getvalue()
    assert "request=<inferencegw.v1.InferRequest>" in stream.getvalue()


def test_a_peer_cannot_reach_the_terminal_through_the_log(stream: io.StringIO) -> None:
    """Escape sequences and carriage returns in a peer's error message are written as escapes."""
    structlog.get_logger().info("refused", reason="\x1b[2J\rlevel=critical \x9b", error=ValueError("\x07"))
    assert stream.getvalue().rstrip("\n").isprintable()


def test_in_json_an_event_is_one_object_with_the_same_fields_in_the_same_order() -> None:
    """The same rules hold: no text of a user, no forged line; what JSON has no form for is text."""
    stream = io.StringIO()
    configure_logging("info", form="json", stream=stream)
    structlog.get_logger("here").info("it came\nin two", count=3, prompt=SECRET, error=ValueError("x"), where={1})
    [line] = stream.getvalue().splitlines()
    document = json.loads(line)
    assert list(document) == ["time", "level", "logger", "event", "count", "prompt", "error", "where"]
    assert {name: value for name, value in document.items() if name != "time"} == {
        "level": "info",
        "logger": "here",
        "event": "it came\nin two",
        "count": 3,
        "prompt": f"<{len(SECRET)} withheld>",
        "error": "x",
        "where": "{1}",
    }


def test_an_unknown_format_is_an_error_that_names_the_known_ones() -> None:
    """As with levels."""
    before = structlog.get_config()
    with pytest.raises(ConfigError, match="log_format = 'xml': must be one of logfmt, json"):
        configure_logging("info", form="xml")
    assert structlog.get_config() == before


async def test_what_a_call_does_is_logged_with_its_name_and_what_others_do_is_not(stream: io.StringIO) -> None:
    """Tasks inherit it; a task beside has its own."""

    async def one(name: str) -> None:
        name_call(name)
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - that it is a task of its own is the point
            nursery.start_soon(say)

    async def say() -> None:
        await trio.lowlevel.checkpoint()
        structlog.get_logger().info("done")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "q1")
        nursery.start_soon(one, "q2")
    await say()
    lines = stream.getvalue().splitlines()
    assert sorted(line.partition("request_id=")[2] for line in lines) == ["", "q1", "q2"]


@pytest.mark.parametrize("level", LEVELS)
def test_events_below_the_level_are_not_logged(level: str) -> None:
    """Each level shows itself and what is more important, nothing else."""
    before = structlog.get_config()
    stream = io.StringIO()
    configure_logging(level, stream=stream)
    log = structlog.get_logger()
    for name in LEVELS:
        getattr(log, name)("event")
    structlog.configure(**before)
    shown = [line.split()[1].removeprefix("level=") for line in stream.getvalue().splitlines()]
    assert shown == list(LEVELS[LEVELS.index(level) :])


def test_an_unknown_level_is_an_error_that_names_the_known_ones() -> None:
    """The message says what came and what is allowed; the log stays as it was."""
    before = structlog.get_config()
    with pytest.raises(ConfigError, match="log_level = 'loud': must be one of debug, info, warning, error, critical"):
        configure_logging("loud")
    assert structlog.get_config() == before


def test_a_log_that_cannot_be_written_does_not_stop_the_caller() -> None:
    """A full disk or a reader that died loses events, not calls."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    before = structlog.get_config()
    configure_logging("info", stream=Full())
    structlog.get_logger().info("lost")
    structlog.configure(**before)


def test_the_level_can_be_changed_while_it_is_logged(stream: io.StringIO) -> None:
    """Loggers that exist already follow, to where they logged before; the level before is told."""
    logger = structlog.get_logger("module")
    logger.debug("one")
    assert set_level("debug") == "info"
    logger.debug("two")
    assert set_level("error") == "debug"
    logger.warning("three")
    assert [line.split("event=")[1] for line in stream.getvalue().splitlines()] == ["two"]


def test_a_level_that_is_not_ours_has_no_name() -> None:
    """Whoever embeds us may have configured structlog in another way."""
    before = structlog.get_config()
    structlog.reset_defaults()
    assert set_level("error") is None
    structlog.configure(**before)
