"""Iterators over what arrives on a stream. Classes, not async generators: nothing is suspended between two items, so a
loop may be left at any point and leaves nothing to be closed (PEP 789).
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

__all__ = ["Batches", "NextBatch", "OneByOne"]

NextBatch: TypeAlias = Callable[[], Awaitable[list[Any] | None]]
"""Waits for the next batch of messages; None when there will be none."""


class Batches:
    """Batch by batch."""

    def __init__(self, next_batch: NextBatch) -> None:
        self._next_batch = next_batch

    def __aiter__(self) -> "Batches":
        return self

    async def __anext__(self) -> list[Any]:
        batch = await self._next_batch()
        if batch is None:
            raise StopAsyncIteration
        return batch


class OneByOne:
    """Message by message."""

    def __init__(self, next_batch: NextBatch) -> None:
        self._next_batch = next_batch
        self._batch: Iterator[Any] = iter(())

    def __aiter__(self) -> "OneByOne":
        return self

    async def __anext__(self) -> Any:
        while True:
            for message in self._batch:
                return message
            batch = await self._next_batch()
            if batch is None:
                raise StopAsyncIteration
            self._batch = iter(batch)
