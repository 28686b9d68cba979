"""The log: structlog, one event per line, ``key=value`` (logfmt) or JSON, on standard error.

The rule: a line of the log never contains what a user wrote or a model answered, and a peer cannot forge one. Both are
kept here, by processors that every event passes, rather than by the good manners of each caller: fields that are known
to carry prompt or completion text are replaced by their size, protobuf messages by their type (their ``repr`` is their
whole content), and control characters are written as escapes.

What belongs to a call says so: whoever begins one names it (:func:`name_call`), and every event of that task and of
those that it starts has the name, whoever logs it.

Why standard error: standard output belongs to the ready line and to what a command was asked to print.
"""

import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, get_args

import attrs
import structlog
from google.protobuf.message import Message

from inferencegw.config import FORMATS, LEVELS, LogLevel
from inferencegw.errors import ConfigError
from inferencegw.telemetry.sink import Sink

__all__ = ["LEVELS", "LogLevel", "configure_logging", "name_call", "set_level"]

_FIRST: Final = ["time", "level", "logger", "event"]

TEXT_FIELDS: Final = frozenset({"prompt", "text", "resume_text", "generated_text"})
"""Names of the fields, as in the protos, that carry what a user wrote or a model answered."""

# The renderer itself escapes the newline; an escape character or a carriage return would reach the terminal.
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != ord("\n")}


def configure_logging(level: str, *, form: str = "logfmt", stream: TextIO | None = None) -> None:
    """Send every event at ``level`` or above to ``stream`` (standard error as it is now), one line each.

    Nobody waits for its reader: ``telemetry.sink``.

    Raises:
        ConfigError: there is no such level or format; the log is as it was.
    """
    if level not in LEVELS:
        raise ConfigError(f"log_level = {level!r}: must be one of {', '.join(LEVELS)}")
    if form not in FORMATS:
        raise ConfigError(f"log_format = {form!r}: must be one of {', '.join(FORMATS)}")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.format_exc_info,
            withhold_text,
            _json_line if form == "json" else _logfmt_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LoggerFactory(Sink(stream or sys.stderr, _tell_of_lost)),
        # Module-level loggers outlive a configuration: a second call (a reload, the next test) must reach them too.
        cache_logger_on_first_use=False,
    )


def set_level(level: LogLevel) -> LogLevel | None:
    """Log more or less from now on, to where it is logged; the level before, None where it was none of ours."""
    loggers = {name: structlog.make_filtering_bound_logger(name) for name in get_args(LogLevel)}
    current = structlog.get_config()["wrapper_class"]
    structlog.configure(**{**structlog.get_config(), "wrapper_class": loggers[level]})
    return next((name for name, logger in loggers.items() if logger is current), None)


def name_call(request_id: str) -> None:
    """Let every event that is logged from here on, by this task and those that it starts, have that ``request_id``."""
    structlog.contextvars.bind_contextvars(request_id=request_id)


_logfmt_line: Final = structlog.processors.LogfmtRenderer(key_order=_FIRST, drop_missing=True, bool_as_flag=False)

_json: Final = structlog.processors.JSONRenderer(default=str)


def _json_line(logger: object, method: str, event_dict: MutableMapping[str, Any]) -> str | bytes:
    """In the same order; what JSON has no form for is told as its text."""
    ordered = {key: event_dict.pop(key) for key in _FIRST if key in event_dict}
    return _json(logger, method, ordered | dict(event_dict))


def withhold_text(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that keeps prompts, completions and control characters out of the log."""
    for key, value in event_dict.items():
        if isinstance(value, Message):
            event_dict[key] = f"<{type(value).DESCRIPTOR.full_name}>"
        elif key in TEXT_FIELDS and isinstance(value, (str, bytes)):
            event_dict[key] = f"<{len(value)} withheld>"
        elif isinstance(value, (str, BaseException)):
            event_dict[key] = str(value).translate(_ESCAPES)
    return event_dict


@attrs.frozen
class _LoggerFactory:
    """Makes the loggers: each knows the name it was asked for, all write whole lines to one place."""

    sink: Sink

    def __call__(self, name: str = "inferencegw", *args: object) -> "_LineLogger":
        return _LineLogger(name, self.sink)


@attrs.frozen
class _LineLogger:
    name: str
    sink: Sink

    def write(self, line: str) -> None:
        """An event that cannot be written is lost: that is no reason to stop serving, or to wait."""
        self.sink.write(line)

    debug = info = warning = error = critical = exception = write


def _tell_of_lost(lines: int) -> None:
    structlog.get_logger(__name__).warning("lines of the log were lost: nobody took them", lines=lines)
