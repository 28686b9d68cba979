"""A key that is taken back at a reload: what becomes of the calls that were made with it, named ones above all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from inferencegw.errors import StatusCode
from inferencegw.rpc.credentials import bearer
from tests.gateway.house import Asked, House, house, paced, scripted
from tests.gateway.papers import CLIENT, OTHER, WRONG, keys_file
from tests.gateway.support import ScriptedReplica

LENGTH: Final = 6
"""Tokens of a call, one a second: none has ended by itself when a key is taken back."""

OUT: Final = (StatusCode.UNAUTHENTICATED, "key_revoked")
OUT_TOLD: Final = ("UNAUTHENTICATED", "key_revoked")


@attrs.frozen(eq=False)
class Revoking:
    """A gateway with alice's keys, and what she asks of it."""

    it: House
    replica: ScriptedReplica
    path: Path

    def ask(self, key: str, **fields: Any) -> Asked:
        """A long call with that key."""
        return self.it.ask(metadata=bearer(key), max_tokens=LENGTH, **fields)

    def keys_are(self, *keys: str) -> None:
        """Alice has these from now on; bob keeps his, for a file without keys is none."""
        alice = (("alice", keys, ""),) if keys else ()
        keys_file(self.path, ("bob", WRONG, ""), *alice)
        self.it.gateway.reload()

    def recorded(self, request_id: str) -> tuple[int, str]:
        """How that call has ended, for who asks why."""
        record = self.it.gateway.records.find(request_id)
        assert record is not None
        told = record.to_proto()
        return StatusCode(told.status_code), told.reason


@asynccontextmanager
async def revoking(clock: MockClock, tmp_path: Path, **options: Any) -> AsyncIterator[Revoking]:
    """One replica; alice has CLIENT for a key, and OTHER, too."""
    path, [replica] = tmp_path / "keys", scripted(1, script=paced(1.0))
    keys_file(path, ("alice", (CLIENT, OTHER), ""), ("bob", WRONG, ""))
    async with house(clock, replica, keys_file=str(path), **options) as it:
        yield Revoking(it, replica, path)
        await it.settled()
        assert it.leases.total() == replica.active


@pytest.mark.parametrize("named", [False, True])
async def test_a_call_that_is_read_ends_with_its_key_and_its_record_says_so(
    autojump_clock: MockClock, tmp_path: Path, *, named: bool
) -> None:
    """The stream, the generation behind it and what people are told of it, at once; one ``gw-reason``."""
    async with revoking(autojump_clock, tmp_path, resume_grace=600.0) as here:
        asked = here.ask(CLIENT, **({"request_id": "q"} if named else {}))
        await asked.until(2)
        here.keys_are(OTHER)
        await asked.finish()
        await here.it.settled()
        assert ((asked.code, asked.reason), asked.indexes) == (OUT, [0, 1])
        assert here.recorded(asked.trailers["gw-request-id"]) == OUT
        assert here.it.gateway.readings()["requests_total"] == {("OK", ""): 0, OUT_TOLD: 1}
        assert asked.ended_at - asked.times[-1] == pytest.approx(0.0, abs=0.01)
        assert here.replica.active == 0


async def test_a_named_call_that_nobody_reads_ends_with_its_key_and_not_after_its_grace(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Somebody who has stolen a key gets no more of a gateway by leaving and coming again."""
    async with revoking(autojump_clock, tmp_path, resume_grace=600.0) as here:
        asked = here.ask(CLIENT, request_id="q")
        await asked.until(2)
        asked.cancel()
        await asked.finish()
        await here.it.settled()
        assert here.replica.active == 1, "its grace has begun"
        here.keys_are()
        await here.it.settled()
        assert (here.replica.active, here.recorded("q")) == (0, OUT)
        again = await here.ask(CLIENT, request_id="q").finish()
        assert (again.code, again.reason) == (StatusCode.UNAUTHENTICATED, "unknown_key")


async def test_a_named_call_belongs_to_the_key_that_it_was_taken_up_with(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A client that changes its key in the middle of a call loses neither the call nor a token."""
    async with revoking(autojump_clock, tmp_path) as here:
        old = here.ask(CLIENT, request_id="q")
        await old.until(2)
        new = here.ask(OTHER, request_id="q")
        await old.finish()
        assert old.reason == "taken_over"
        here.keys_are(OTHER)
        late = await here.ask(CLIENT, request_id="q").finish()
        assert late.reason == "unknown_key"
        await new.finish()
        assert (new.code, new.indexes, len(here.replica.calls)) == (StatusCode.OK, list(range(LENGTH)), 1)


async def test_a_file_that_cannot_be_used_ends_no_call(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Whether somebody reads it or not: the keys are as they were."""
    async with revoking(autojump_clock, tmp_path, resume_grace=600.0) as here:
        read, left = here.ask(CLIENT), here.ask(CLIENT, request_id="q")
        await left.until(2)
        left.cancel()
        await left.finish()
        here.path.write_text("[keys.al")
        here.it.gateway.reload()
        assert (await read.finish()).code is StatusCode.OK
        await trio.sleep(5.0)
        again = here.ask(CLIENT, request_id="q")
        assert (await again.finish()).indexes == list(range(LENGTH))
