from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_STOP: FinishReason

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "seed", "stop")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "prompt", "max_tokens", "sampling", "tokens_already_generated", "generated_text")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    TOKENS_ALREADY_GENERATED_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TEXT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompt: str
    max_tokens: int
    sampling: Sampling
    tokens_already_generated: int
    generated_text: str
    def __init__(self, request_id: _Optional[str] = ..., prompt: _Optional[str] = ..., max_tokens: _Optional[int] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., tokens_already_generated: _Optional[int] = ..., generated_text: _Optional[str] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("index", "text", "is_final", "finish_reason", "usage")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    text: str
    is_final: bool
    finish_reason: FinishReason
    usage: Usage
    def __init__(self, index: _Optional[int] = ..., text: _Optional[str] = ..., is_final: _Optional[bool] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("timeout", "cordon_only")
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    CORDON_ONLY_FIELD_NUMBER: _ClassVar[int]
    timeout: float
    cordon_only: bool
    def __init__(self, timeout: _Optional[float] = ..., cordon_only: _Optional[bool] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("active_requests",)
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    active_requests: int
    def __init__(self, active_requests: _Optional[int] = ...) -> None: ...

class UndrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UndrainResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("replica_id", "model", "model_version", "active_requests", "max_capacity", "draining", "tokens_generated_total", "requests_cancelled_total", "epoch")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    TOKENS_GENERATED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_CANCELLED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    model: str
    model_version: str
    active_requests: int
    max_capacity: int
    draining: bool
    tokens_generated_total: int
    requests_cancelled_total: int
    epoch: int
    def __init__(self, replica_id: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., active_requests: _Optional[int] = ..., max_capacity: _Optional[int] = ..., draining: _Optional[bool] = ..., tokens_generated_total: _Optional[int] = ..., requests_cancelled_total: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class FaultSpec(_message.Message):
    __slots__ = ("reject_all", "error_rate", "crash_at_token", "freeze_at_token", "slow_factor", "truncate_at_token", "repeat_token", "skip_token", "close_connection_at_token", "gossip_drop_rate", "gossip_delay")
    REJECT_ALL_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    CRASH_AT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FREEZE_AT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SLOW_FACTOR_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_AT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPEAT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SKIP_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_CONNECTION_AT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_DROP_RATE_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_DELAY_FIELD_NUMBER: _ClassVar[int]
    reject_all: bool
    error_rate: float
    crash_at_token: int
    freeze_at_token: int
    slow_factor: float
    truncate_at_token: int
    repeat_token: int
    skip_token: int
    close_connection_at_token: int
    gossip_drop_rate: float
    gossip_delay: float
    def __init__(self, reject_all: _Optional[bool] = ..., error_rate: _Optional[float] = ..., crash_at_token: _Optional[int] = ..., freeze_at_token: _Optional[int] = ..., slow_factor: _Optional[float] = ..., truncate_at_token: _Optional[int] = ..., repeat_token: _Optional[int] = ..., skip_token: _Optional[int] = ..., close_connection_at_token: _Optional[int] = ..., gossip_drop_rate: _Optional[float] = ..., gossip_delay: _Optional[float] = ...) -> None: ...

class FaultPlan(_message.Message):
    __slots__ = ("seed", "faults")
    SEED_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    seed: int
    faults: _containers.RepeatedCompositeFieldContainer[FaultSpec]
    def __init__(self, seed: _Optional[int] = ..., faults: _Optional[_Iterable[_Union[FaultSpec, _Mapping]]] = ...) -> None: ...

class InjectFaultRequest(_message.Message):
    __slots__ = ("fault", "seed")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    fault: FaultSpec
    seed: int
    def __init__(self, fault: _Optional[_Union[FaultSpec, _Mapping]] = ..., seed: _Optional[int] = ...) -> None: ...

class InjectFaultResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: FaultPlan
    def __init__(self, plan: _Optional[_Union[FaultPlan, _Mapping]] = ...) -> None: ...

class ClearFaultsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClearFaultsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFaultsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFaultsResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: FaultPlan
    def __init__(self, plan: _Optional[_Union[FaultPlan, _Mapping]] = ...) -> None: ...
