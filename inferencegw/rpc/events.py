"""What a connection tells its shell. One input may cause several; they are handled in order."""

from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from inferencegw.rpc.stream import Stream

__all__ = ["Arrived", "CallEnded", "CallReceived", "Event"]


@attrs.frozen(eq=False)
class CallReceived:
    """Server: a well-formed gRPC request has begun; its messages follow as :class:`Arrived`."""

    stream: "Stream"


@attrs.frozen(eq=False)
class Arrived:
    """Something to look at: messages in the inbox, response headers, or the peer's orderly end.

    Not repeated for a stream until its owner has looked (:meth:`~inferencegw.rpc.stream.Stream.take`).
    """

    stream: "Stream"


@attrs.frozen(eq=False)
class CallEnded:
    """The stream is closed and it was not its owner who closed it; ``stream.error`` says why (None: status OK)."""

    stream: "Stream"


Event: TypeAlias = CallReceived | Arrived | CallEnded
