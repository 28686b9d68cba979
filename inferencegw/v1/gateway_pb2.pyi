from inferencegw.v1 import replica_pb2 as _replica_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hedge(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEDGE_UNSPECIFIED: _ClassVar[Hedge]
    HEDGE_NEVER: _ClassVar[Hedge]
    HEDGE_RACE: _ClassVar[Hedge]
    HEDGE_ADAPTIVE: _ClassVar[Hedge]
HEDGE_UNSPECIFIED: Hedge
HEDGE_NEVER: Hedge
HEDGE_RACE: Hedge
HEDGE_ADAPTIVE: Hedge

class InferRequest(_message.Message):
    __slots__ = ("request_id", "client_id", "model", "prompt", "max_tokens", "hedge", "sampling", "affinity_key", "resume_offset", "resume_text")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HEDGE_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    AFFINITY_KEY_FIELD_NUMBER: _ClassVar[int]
    RESUME_OFFSET_FIELD_NUMBER: _ClassVar[int]
    RESUME_TEXT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    client_id: str
    model: str
    prompt: str
    max_tokens: int
    hedge: Hedge
    sampling: _replica_pb2.Sampling
    affinity_key: str
    resume_offset: int
    resume_text: str
    def __init__(self, request_id: _Optional[str] = ..., client_id: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., max_tokens: _Optional[int] = ..., hedge: _Optional[_Union[Hedge, str]] = ..., sampling: _Optional[_Union[_replica_pb2.Sampling, _Mapping]] = ..., affinity_key: _Optional[str] = ..., resume_offset: _Optional[int] = ..., resume_text: _Optional[str] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("index", "text", "is_final", "finish_reason", "usage", "replica_id", "attempt")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    index: int
    text: str
    is_final: bool
    finish_reason: _replica_pb2.FinishReason
    usage: _replica_pb2.Usage
    replica_id: str
    attempt: int
    def __init__(self, index: _Optional[int] = ..., text: _Optional[str] = ..., is_final: _Optional[bool] = ..., finish_reason: _Optional[_Union[_replica_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_replica_pb2.Usage, _Mapping]] = ..., replica_id: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...
