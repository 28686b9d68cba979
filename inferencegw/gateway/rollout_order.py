"""What is asked for with a rollout, and what it is to do in the light of the one before it.

The rule: what was not said is as it was where one that has stopped is gone on with, and as the proto has it elsewhere.
And none is begun over another one that has stopped: which versions there were before would be lost with it.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.request import invalid
from inferencegw.gateway.rollout_file import RolloutState
from inferencegw.gateway.tally import Count
from inferencegw.v1 import admin_pb2

__all__ = ["RolloutOrder"]

LONGEST: Final = 3600.0
"""Seconds that may be asked for. High: a rollout seems to hang. Low: large models cannot be updated."""


@attrs.frozen(kw_only=True)
class RolloutOrder:
    """One ``RolloutRequest``, checked; the fields are its own. None and empty ones were not said."""

    version: str = ""
    only: tuple[str, ...] = ()
    resume: bool = False
    rollback: bool = False
    dry_run: bool = False
    drain_timeout: float | None = None
    rejoin_timeout: float | None = None
    pause_after: int = 0
    manager: str = ""

    @classmethod
    def of(cls, request: admin_pb2.RolloutRequest) -> "RolloutOrder":
        """RpcError INVALID_ARGUMENT for the first thing that is wrong with ``request``."""
        order = cls(
            version=request.model_version,
            only=tuple(request.replica_ids),
            resume=request.resume,
            rollback=request.rollback,
            dry_run=request.dry_run,
            drain_timeout=_said(request, "drain_timeout", 0.0),
            rejoin_timeout=_said(request, "rejoin_timeout", 0.1),
            pause_after=request.pause_after,
            manager=request.manager,
        )
        if request.max_unavailable > 1:
            raise invalid(f"max_unavailable is {request.max_unavailable}; it must be 1: one replica is out at a time")
        if len(order.version.encode()) > 64:
            raise invalid("model_version is too long; it must be 1 to 64 bytes long")
        if order.resume and order.rollback:
            raise invalid("resume and rollback are both set; it must be one of them at most")
        if not order.version and not order.goes_on:
            raise invalid("model_version is empty; only resume and rollback may leave it out")
        return order

    @property
    def goes_on(self) -> bool:
        """Whether it is about what another one has left."""
        return self.resume or self.rollback

    def over(
        self, saved: RolloutState | None, *, before: Mapping[str, str], counts: Mapping[str, Count], now_ms: int
    ) -> RolloutState:
        """What is to be done, after what was ``saved``.

        Args:
            saved: what the file knows; None if nothing.
            before: what each replica serves now.
            counts: what each gateway has counted until now.
            now_ms: in milliseconds since 1970 UTC.

        Raises:
            RpcError: FAILED_PRECONDITION: nobody knows the version; or another one has stopped, and is to be seen to.
        """
        begun: dict[str, Any] = {"began_at_ms": now_ms, "counts": dict(counts)}
        if saved is None or not self.goes_on:
            if saved is not None and not saved.is_finished:
                why = f": {saved.reason}" if saved.reason else ""
                raise _precondition(
                    f"a rollout to {saved.version} is not finished ({saved.phase}{why}): --resume goes on with it, "
                    "--rollback undoes it"
                )
            state = RolloutState(version=self.version, before=dict(before), **begun)
        elif self.resume:
            version = self.version or saved.version
            state = attrs.evolve(saved, version=version, targets=saved.targets if version == saved.version else {})
        else:
            version = self.version or _commonest(saved.before)
            state = attrs.evolve(saved, version=version, targets={} if self.version else saved.before, **begun)
        if not state.version:
            raise _precondition("nothing is remembered here (trio-gw run --state-dir): say which version")
        said = {name: getattr(self, name) for name in ("only", "drain_timeout", "rejoin_timeout", "manager")}
        return attrs.evolve(state, **{name: value for name, value in said.items() if value not in (None, (), "")})


def _said(request: admin_pb2.RolloutRequest, name: str, low: float) -> float | None:
    """The seconds of that field, None if it is not there; RpcError INVALID_ARGUMENT where they cannot be."""
    value: float = getattr(request, name)
    if not request.HasField(name):
        return None
    if not low <= value <= LONGEST:  # this way round, because NaN must fail too
        raise invalid(f"{name} is {value:g}; it must be from {low:g} to {LONGEST:g} (seconds)")
    return value


def _commonest(before: Mapping[str, str]) -> str:
    """What most of them served; the first by name of several, empty if there are none."""
    versions = list(before.values())
    return max(sorted(set(versions)), key=versions.count, default="")


def _precondition(problem: str) -> RpcError:
    return RpcError(StatusCode.FAILED_PRECONDITION, problem)
