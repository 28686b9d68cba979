from inferencegw.v1 import gossip_pb2 as _gossip_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BreakerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BREAKER_STATE_UNSPECIFIED: _ClassVar[BreakerState]
    BREAKER_STATE_CLOSED: _ClassVar[BreakerState]
    BREAKER_STATE_OPEN: _ClassVar[BreakerState]
    BREAKER_STATE_HALF_OPEN: _ClassVar[BreakerState]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_HEALTHY: _ClassVar[Verdict]
    VERDICT_DEAD: _ClassVar[Verdict]
    VERDICT_GRAY: _ClassVar[Verdict]
    VERDICT_PARTITIONED: _ClassVar[Verdict]

class LogLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOG_LEVEL_UNSPECIFIED: _ClassVar[LogLevel]
    LOG_LEVEL_DEBUG: _ClassVar[LogLevel]
    LOG_LEVEL_INFO: _ClassVar[LogLevel]
    LOG_LEVEL_WARNING: _ClassVar[LogLevel]
    LOG_LEVEL_ERROR: _ClassVar[LogLevel]

class RolloutPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_PHASE_UNSPECIFIED: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_CHECK: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_CORDON: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_DRAIN: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_STOP: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_START: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_REJOIN: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_CANARY: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_WARM_UP: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_REPLICA_DONE: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_FINISHED: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_STOPPED: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_PAUSED: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_RELEASE: _ClassVar[RolloutPhase]
    ROLLOUT_PHASE_SHUN: _ClassVar[RolloutPhase]

class AttemptKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_KIND_UNSPECIFIED: _ClassVar[AttemptKind]
    ATTEMPT_KIND_FIRST: _ClassVar[AttemptKind]
    ATTEMPT_KIND_RETRY: _ClassVar[AttemptKind]
    ATTEMPT_KIND_HEDGE: _ClassVar[AttemptKind]
    ATTEMPT_KIND_MIGRATE: _ClassVar[AttemptKind]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_SUCCESS: _ClassVar[Outcome]
    OUTCOME_FAULT: _ClassVar[Outcome]
    OUTCOME_NEUTRAL: _ClassVar[Outcome]
    OUTCOME_CLIENT: _ClassVar[Outcome]
BREAKER_STATE_UNSPECIFIED: BreakerState
BREAKER_STATE_CLOSED: BreakerState
BREAKER_STATE_OPEN: BreakerState
BREAKER_STATE_HALF_OPEN: BreakerState
VERDICT_UNSPECIFIED: Verdict
VERDICT_HEALTHY: Verdict
VERDICT_DEAD: Verdict
VERDICT_GRAY: Verdict
VERDICT_PARTITIONED: Verdict
LOG_LEVEL_UNSPECIFIED: LogLevel
LOG_LEVEL_DEBUG: LogLevel
LOG_LEVEL_INFO: LogLevel
LOG_LEVEL_WARNING: LogLevel
LOG_LEVEL_ERROR: LogLevel
ROLLOUT_PHASE_UNSPECIFIED: RolloutPhase
ROLLOUT_PHASE_CHECK: RolloutPhase
ROLLOUT_PHASE_CORDON: RolloutPhase
ROLLOUT_PHASE_DRAIN: RolloutPhase
ROLLOUT_PHASE_STOP: RolloutPhase
ROLLOUT_PHASE_START: RolloutPhase
ROLLOUT_PHASE_REJOIN: RolloutPhase
ROLLOUT_PHASE_CANARY: RolloutPhase
ROLLOUT_PHASE_WARM_UP: RolloutPhase
ROLLOUT_PHASE_REPLICA_DONE: RolloutPhase
ROLLOUT_PHASE_FINISHED: RolloutPhase
ROLLOUT_PHASE_STOPPED: RolloutPhase
ROLLOUT_PHASE_PAUSED: RolloutPhase
ROLLOUT_PHASE_RELEASE: RolloutPhase
ROLLOUT_PHASE_SHUN: RolloutPhase
ATTEMPT_KIND_UNSPECIFIED: AttemptKind
ATTEMPT_KIND_FIRST: AttemptKind
ATTEMPT_KIND_RETRY: AttemptKind
ATTEMPT_KIND_HEDGE: AttemptKind
ATTEMPT_KIND_MIGRATE: AttemptKind
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_SUCCESS: Outcome
OUTCOME_FAULT: Outcome
OUTCOME_NEUTRAL: Outcome
OUTCOME_CLIENT: Outcome

class GatewayStatus(_message.Message):
    __slots__ = ("gateway_id", "version", "uptime", "draining", "inflight", "queue_depth", "replicas", "counts")
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    INFLIGHT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    gateway_id: str
    version: str
    uptime: float
    draining: bool
    inflight: int
    queue_depth: int
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaStatus]
    counts: GatewayCounts
    def __init__(self, gateway_id: _Optional[str] = ..., version: _Optional[str] = ..., uptime: _Optional[float] = ..., draining: _Optional[bool] = ..., inflight: _Optional[int] = ..., queue_depth: _Optional[int] = ..., replicas: _Optional[_Iterable[_Union[ReplicaStatus, _Mapping]]] = ..., counts: _Optional[_Union[GatewayCounts, _Mapping]] = ...) -> None: ...

class GatewayCounts(_message.Message):
    __slots__ = ("requests", "requests_failed", "tokens", "first_tokens", "first_token_seconds", "failovers", "failovers_failed", "hedges", "hedges_won")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FAILED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FAILOVERS_FIELD_NUMBER: _ClassVar[int]
    FAILOVERS_FAILED_FIELD_NUMBER: _ClassVar[int]
    HEDGES_FIELD_NUMBER: _ClassVar[int]
    HEDGES_WON_FIELD_NUMBER: _ClassVar[int]
    requests: int
    requests_failed: int
    tokens: int
    first_tokens: int
    first_token_seconds: float
    failovers: int
    failovers_failed: int
    hedges: int
    hedges_won: int
    def __init__(self, requests: _Optional[int] = ..., requests_failed: _Optional[int] = ..., tokens: _Optional[int] = ..., first_tokens: _Optional[int] = ..., first_token_seconds: _Optional[float] = ..., failovers: _Optional[int] = ..., failovers_failed: _Optional[int] = ..., hedges: _Optional[int] = ..., hedges_won: _Optional[int] = ...) -> None: ...

class ReplicaStatus(_message.Message):
    __slots__ = ("replica_id", "epoch", "address", "model", "model_version", "state", "connected", "breaker", "inflight", "max_capacity", "weight", "cordoned", "draining", "verdict", "load")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    INFLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    epoch: int
    address: str
    model: str
    model_version: str
    state: _gossip_pb2.MemberState
    connected: bool
    breaker: BreakerState
    inflight: int
    max_capacity: int
    weight: float
    cordoned: bool
    draining: bool
    verdict: Verdict
    load: int
    def __init__(self, replica_id: _Optional[str] = ..., epoch: _Optional[int] = ..., address: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., state: _Optional[_Union[_gossip_pb2.MemberState, str]] = ..., connected: _Optional[bool] = ..., breaker: _Optional[_Union[BreakerState, str]] = ..., inflight: _Optional[int] = ..., max_capacity: _Optional[int] = ..., weight: _Optional[float] = ..., cordoned: _Optional[bool] = ..., draining: _Optional[bool] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., load: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: GatewayStatus
    def __init__(self, status: _Optional[_Union[GatewayStatus, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("interval",)
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    interval: float
    def __init__(self, interval: _Optional[float] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: GatewayStatus
    def __init__(self, status: _Optional[_Union[GatewayStatus, _Mapping]] = ...) -> None: ...

class ListMembersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMembersResponse(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("member_id", "status", "meta", "load", "since", "rtt")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    RTT_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    status: _gossip_pb2.MemberStatus
    meta: _gossip_pb2.MemberMeta
    load: _gossip_pb2.MemberLoad
    since: float
    rtt: float
    def __init__(self, member_id: _Optional[str] = ..., status: _Optional[_Union[_gossip_pb2.MemberStatus, _Mapping]] = ..., meta: _Optional[_Union[_gossip_pb2.MemberMeta, _Mapping]] = ..., load: _Optional[_Union[_gossip_pb2.MemberLoad, _Mapping]] = ..., since: _Optional[float] = ..., rtt: _Optional[float] = ...) -> None: ...

class DrainReplicaRequest(_message.Message):
    __slots__ = ("replica_id", "timeout")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    timeout: float
    def __init__(self, replica_id: _Optional[str] = ..., timeout: _Optional[float] = ...) -> None: ...

class DrainReplicaResponse(_message.Message):
    __slots__ = ("active_requests",)
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    active_requests: int
    def __init__(self, active_requests: _Optional[int] = ...) -> None: ...

class UndrainReplicaRequest(_message.Message):
    __slots__ = ("replica_id",)
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    def __init__(self, replica_id: _Optional[str] = ...) -> None: ...

class UndrainReplicaResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RolloutRequest(_message.Message):
    __slots__ = ("model_version", "replica_ids", "resume", "rollback", "dry_run", "max_unavailable", "drain_timeout", "rejoin_timeout", "pause_after", "manager")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    REPLICA_IDS_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    DRAIN_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    REJOIN_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PAUSE_AFTER_FIELD_NUMBER: _ClassVar[int]
    MANAGER_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    replica_ids: _containers.RepeatedScalarFieldContainer[str]
    resume: bool
    rollback: bool
    dry_run: bool
    max_unavailable: int
    drain_timeout: float
    rejoin_timeout: float
    pause_after: int
    manager: str
    def __init__(self, model_version: _Optional[str] = ..., replica_ids: _Optional[_Iterable[str]] = ..., resume: _Optional[bool] = ..., rollback: _Optional[bool] = ..., dry_run: _Optional[bool] = ..., max_unavailable: _Optional[int] = ..., drain_timeout: _Optional[float] = ..., rejoin_timeout: _Optional[float] = ..., pause_after: _Optional[int] = ..., manager: _Optional[str] = ...) -> None: ...

class RolloutResponse(_message.Message):
    __slots__ = ("phase", "replica_id", "done", "total", "message", "receipt")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    phase: RolloutPhase
    replica_id: str
    done: int
    total: int
    message: str
    receipt: RolloutReceipt
    def __init__(self, phase: _Optional[_Union[RolloutPhase, str]] = ..., replica_id: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., message: _Optional[str] = ..., receipt: _Optional[_Union[RolloutReceipt, _Mapping]] = ...) -> None: ...

class RolloutReceipt(_message.Message):
    __slots__ = ("requests_total", "requests_dropped", "requests_handed_over", "duration", "requests_running", "gateways", "unasked")
    REQUESTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_HANDED_OVER_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    UNASKED_FIELD_NUMBER: _ClassVar[int]
    requests_total: int
    requests_dropped: int
    requests_handed_over: int
    duration: float
    requests_running: int
    gateways: _containers.RepeatedScalarFieldContainer[str]
    unasked: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, requests_total: _Optional[int] = ..., requests_dropped: _Optional[int] = ..., requests_handed_over: _Optional[int] = ..., duration: _Optional[float] = ..., requests_running: _Optional[int] = ..., gateways: _Optional[_Iterable[str]] = ..., unasked: _Optional[_Iterable[str]] = ...) -> None: ...

class PauseRolloutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PauseRolloutResponse(_message.Message):
    __slots__ = ("running",)
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    running: bool
    def __init__(self, running: _Optional[bool] = ...) -> None: ...

class GetTallyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTallyResponse(_message.Message):
    __slots__ = ("gateway_id", "epoch", "requests_total", "requests_running", "requests_dropped", "requests_handed_over", "rollout", "waiting")
    class WaitingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_HANDED_OVER_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    gateway_id: str
    epoch: int
    requests_total: int
    requests_running: int
    requests_dropped: int
    requests_handed_over: int
    rollout: bool
    waiting: _containers.ScalarMap[str, int]
    def __init__(self, gateway_id: _Optional[str] = ..., epoch: _Optional[int] = ..., requests_total: _Optional[int] = ..., requests_running: _Optional[int] = ..., requests_dropped: _Optional[int] = ..., requests_handed_over: _Optional[int] = ..., rollout: _Optional[bool] = ..., waiting: _Optional[_Mapping[str, int]] = ...) -> None: ...

class WhyRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class WhyResponse(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: RequestRecord
    def __init__(self, record: _Optional[_Union[RequestRecord, _Mapping]] = ...) -> None: ...

class RequestRecord(_message.Message):
    __slots__ = ("request_id", "arrived_at_ms", "picks", "ticket", "attempts", "splices", "delivered", "status_code", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PICKS_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SPLICES_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    STATUS_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    arrived_at_ms: int
    picks: _containers.RepeatedCompositeFieldContainer[PickRecord]
    ticket: TicketRecord
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptRecord]
    splices: _containers.RepeatedCompositeFieldContainer[Splice]
    delivered: int
    status_code: int
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., arrived_at_ms: _Optional[int] = ..., picks: _Optional[_Iterable[_Union[PickRecord, _Mapping]]] = ..., ticket: _Optional[_Union[TicketRecord, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[AttemptRecord, _Mapping]]] = ..., splices: _Optional[_Iterable[_Union[Splice, _Mapping]]] = ..., delivered: _Optional[int] = ..., status_code: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class PickRecord(_message.Message):
    __slots__ = ("at", "replica_id", "reason", "passed_over", "more_passed_over")
    AT_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PASSED_OVER_FIELD_NUMBER: _ClassVar[int]
    MORE_PASSED_OVER_FIELD_NUMBER: _ClassVar[int]
    at: float
    replica_id: str
    reason: str
    passed_over: _containers.RepeatedCompositeFieldContainer[PassedOver]
    more_passed_over: int
    def __init__(self, at: _Optional[float] = ..., replica_id: _Optional[str] = ..., reason: _Optional[str] = ..., passed_over: _Optional[_Iterable[_Union[PassedOver, _Mapping]]] = ..., more_passed_over: _Optional[int] = ...) -> None: ...

class PassedOver(_message.Message):
    __slots__ = ("replica_id", "reason")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    reason: str
    def __init__(self, replica_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class TicketRecord(_message.Message):
    __slots__ = ("number", "at", "waited")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    number: int
    at: float
    waited: float
    def __init__(self, number: _Optional[int] = ..., at: _Optional[float] = ..., waited: _Optional[float] = ...) -> None: ...

class AttemptRecord(_message.Message):
    __slots__ = ("number", "kind", "replica_id", "epoch", "started", "first_token", "ended", "first_index", "delivered", "outcome", "status_code", "reason")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STATUS_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    number: int
    kind: AttemptKind
    replica_id: str
    epoch: int
    started: float
    first_token: float
    ended: float
    first_index: int
    delivered: int
    outcome: Outcome
    status_code: int
    reason: str
    def __init__(self, number: _Optional[int] = ..., kind: _Optional[_Union[AttemptKind, str]] = ..., replica_id: _Optional[str] = ..., epoch: _Optional[int] = ..., started: _Optional[float] = ..., first_token: _Optional[float] = ..., ended: _Optional[float] = ..., first_index: _Optional[int] = ..., delivered: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., status_code: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Splice(_message.Message):
    __slots__ = ("index", "from_replica_id", "to_replica_id", "version_changed")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FROM_REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    TO_REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_CHANGED_FIELD_NUMBER: _ClassVar[int]
    index: int
    from_replica_id: str
    to_replica_id: str
    version_changed: bool
    def __init__(self, index: _Optional[int] = ..., from_replica_id: _Optional[str] = ..., to_replica_id: _Optional[str] = ..., version_changed: _Optional[bool] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("prompt", "affinity_key", "model", "add", "remove", "add_weight")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    AFFINITY_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    ADD_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    affinity_key: str
    model: str
    add: _containers.RepeatedScalarFieldContainer[str]
    remove: _containers.RepeatedScalarFieldContainer[str]
    add_weight: float
    def __init__(self, prompt: _Optional[str] = ..., affinity_key: _Optional[str] = ..., model: _Optional[str] = ..., add: _Optional[_Iterable[str]] = ..., remove: _Optional[_Iterable[str]] = ..., add_weight: _Optional[float] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("pick", "steps", "off_ring", "change")
    PICK_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OFF_RING_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    pick: PickRecord
    steps: _containers.RepeatedCompositeFieldContainer[RingStep]
    off_ring: _containers.RepeatedCompositeFieldContainer[PassedOver]
    change: RingChange
    def __init__(self, pick: _Optional[_Union[PickRecord, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[RingStep, _Mapping]]] = ..., off_ring: _Optional[_Iterable[_Union[PassedOver, _Mapping]]] = ..., change: _Optional[_Union[RingChange, _Mapping]] = ...) -> None: ...

class RingChange(_message.Message):
    __slots__ = ("prefixes", "moved", "shifts")
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    SHIFTS_FIELD_NUMBER: _ClassVar[int]
    prefixes: int
    moved: int
    shifts: _containers.RepeatedCompositeFieldContainer[RingShift]
    def __init__(self, prefixes: _Optional[int] = ..., moved: _Optional[int] = ..., shifts: _Optional[_Iterable[_Union[RingShift, _Mapping]]] = ...) -> None: ...

class RingShift(_message.Message):
    __slots__ = ("replica_id", "share", "share_after", "gained", "lost")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    SHARE_AFTER_FIELD_NUMBER: _ClassVar[int]
    GAINED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    share: float
    share_after: float
    gained: int
    lost: int
    def __init__(self, replica_id: _Optional[str] = ..., share: _Optional[float] = ..., share_after: _Optional[float] = ..., gained: _Optional[int] = ..., lost: _Optional[int] = ...) -> None: ...

class RingStep(_message.Message):
    __slots__ = ("replica_id", "share", "reason", "load", "bound", "inflight", "max_capacity")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    INFLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    share: float
    reason: str
    load: int
    bound: int
    inflight: int
    max_capacity: int
    def __init__(self, replica_id: _Optional[str] = ..., share: _Optional[float] = ..., reason: _Optional[str] = ..., load: _Optional[int] = ..., bound: _Optional[int] = ..., inflight: _Optional[int] = ..., max_capacity: _Optional[int] = ...) -> None: ...

class SetLogLevelRequest(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: LogLevel
    def __init__(self, level: _Optional[_Union[LogLevel, str]] = ...) -> None: ...

class SetLogLevelResponse(_message.Message):
    __slots__ = ("previous_level",)
    PREVIOUS_LEVEL_FIELD_NUMBER: _ClassVar[int]
    previous_level: LogLevel
    def __init__(self, previous_level: _Optional[_Union[LogLevel, str]] = ...) -> None: ...
