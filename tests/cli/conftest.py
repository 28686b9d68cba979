"""What holds for every test of a command: the logging that it sets up for its process ends with the test."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that runs in the test's process logs to a stream that the test closes."""
    yield
    structlog.reset_defaults()
