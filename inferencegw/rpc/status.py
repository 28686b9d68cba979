"""How a call ended: from what came on the wire to a status, and back.

Sources: gRPC's http-grpc-status-mapping.md and PROTOCOL-HTTP2.md.
"""

from typing import Final

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc.frames import ErrorCode
from inferencegw.rpc.metadata import Fields, decode_metadata, decode_text, encode_metadata, encode_text

__all__ = ["from_http_status", "from_reset", "from_trailers", "trailer_fields"]

_HTTP: Final = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    429: StatusCode.UNAVAILABLE,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}
_ERROR_CODES: Final = frozenset(map(int, ErrorCode))
_STATUS_CODES: Final = frozenset(map(int, StatusCode))
_RESET: Final[dict[int, StatusCode]] = {
    ErrorCode.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}


def from_http_status(status: int) -> RpcError:
    """The error of a response that is not gRPC."""
    return RpcError(_HTTP.get(status, StatusCode.UNKNOWN), f"the peer answered HTTP {status}, not gRPC")


def from_reset(code: int) -> RpcError:
    """The error of a call whose stream the peer reset."""
    name = ErrorCode(code).name if code in _ERROR_CODES else f"error {code:#x}"
    status = _RESET.get(code, StatusCode.INTERNAL)
    return RpcError(status, f"the peer reset the stream: {name}", maybe_processed=code != ErrorCode.REFUSED_STREAM)


def from_trailers(fields: Fields) -> RpcError:
    """The status in a call's trailers; code OK is an ordinary end, not something to raise."""
    values = dict(reversed(fields))
    metadata = decode_metadata(fields)
    raw = values.get(b"grpc-status")
    if raw is None or not raw.isdigit():
        return RpcError(StatusCode.UNKNOWN, "the call ended without a valid grpc-status", metadata=metadata)
    number = int(raw[:9])
    code = StatusCode(number) if number in _STATUS_CODES else StatusCode.UNKNOWN
    return RpcError(code, decode_text(values.get(b"grpc-message", b"")), metadata=metadata)


def trailer_fields(status: RpcError | None, metadata: tuple[tuple[str, str | bytes], ...]) -> Fields:
    """The trailers that end a call with ``status`` (None: OK)."""
    if status is None:
        return [(b"grpc-status", b"0"), *encode_metadata(metadata)]
    fields: Fields = [(b"grpc-status", b"%d" % status.code)]
    if status.message:
        fields.append((b"grpc-message", encode_text(status.message)))
    return fields + encode_metadata(metadata + status.metadata)
