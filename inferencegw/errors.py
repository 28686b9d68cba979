"""Every error this package raises on purpose, in one tree.

The rule: an error says whose fault it is, what state is left behind, and, where a remote caller will see it, with which
gRPC status. Programmer errors (a wrong type, a method called twice) are ordinary ``TypeError``/``RuntimeError`` and are
not in this tree: nobody should catch them.

::

    InferenceGatewayError
    ├── ConfigError            the operator's: a value that cannot be used; nothing was started
    ├── MemberConflict         the operator's: two processes under one name; this one has stopped
    ├── ManagerError           the replica manager's: a replica was not stopped or not started; ask again
    └── RpcError               one call ended with a status other than OK
        └── ConnectionLost     the peer or the network: every call on that connection ended
"""

import enum
from typing import TypeAlias

__all__ = [
    "ConfigError",
    "ConnectionLost",
    "InferenceGatewayError",
    "ManagerError",
    "MemberConflict",
    "Metadata",
    "RpcError",
    "StatusCode",
]

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
"""gRPC metadata: lower-case names; the value is ``bytes`` where the name ends in ``-bin``, else printable ASCII."""


class StatusCode(enum.IntEnum):
    """The gRPC status codes (grpc/doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class InferenceGatewayError(Exception):
    """The root: catch this to catch everything this package raises on purpose."""


class ConfigError(InferenceGatewayError, ValueError):
    """A configuration value cannot be used. The message names the key, the value and what is allowed."""


class MemberConflict(InferenceGatewayError):
    """Another process of the cluster has this one's name. It goes on; this one has stopped taking part."""


class ManagerError(InferenceGatewayError):
    """A replica could not be stopped or started: by its manager's fault, or that of the way there.

    The message names the replica and what failed. It may have been stopped or started all the same; the same order may
    be given again.
    """


class RpcError(InferenceGatewayError):
    """One call ended with a status other than OK.

    A handler raises it to end its call; a client's stream raises it when the peer ended the call so, or when the call
    could not be carried on. Either way the call is over and holds nothing; its connection is unaffected unless the
    error is a :class:`ConnectionLost`.

    Attributes:
        code: the gRPC status.
        message: for people; never parsed.
        metadata: the trailing metadata that came, or is to go, with the status.
        maybe_processed: False only where it is certain that no handler has seen the request (RFC 9113 section 8.7: a
            refused stream, or one above a GOAWAY's last id), so that sending it again cannot do anything twice.
    """

    def __init__(
        self, code: StatusCode, message: str = "", *, metadata: Metadata = (), maybe_processed: bool = True
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.metadata = metadata
        self.maybe_processed = maybe_processed

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}" if self.message else self.code.name

    def metadata_value(self, name: str) -> str | bytes | None:
        """The first value of ``name`` in the trailing metadata, or None."""
        return next((value for key, value in self.metadata if key == name), None)


class ConnectionLost(RpcError):
    """The connection ended under the call: EOF, reset, keepalive timeout, protocol error or GOAWAY. UNAVAILABLE.

    The connection cannot be used again; the call may be tried on another one, at once where ``maybe_processed`` is
    False.
    """

    def __init__(self, message: str, *, maybe_processed: bool = True) -> None:
        super().__init__(StatusCode.UNAVAILABLE, message, maybe_processed=maybe_processed)

    def again(self) -> "ConnectionLost":
        """The same news for somebody else: an exception that is raised twice gathers both tracebacks."""
        return ConnectionLost(self.message, maybe_processed=self.maybe_processed)
