"""Stories say what went wrong in exceptions; the log of a whole cluster would bury it, and takes time."""

from collections.abc import Iterator

import pytest
import structlog

from inferencegw.telemetry.log import configure_logging


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log, until the story ends."""
    configure_logging("critical")
    yield
    structlog.reset_defaults()
