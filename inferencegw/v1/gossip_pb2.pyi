from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MemberState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_STATE_UNSPECIFIED: _ClassVar[MemberState]
    MEMBER_STATE_ALIVE: _ClassVar[MemberState]
    MEMBER_STATE_SUSPECT: _ClassVar[MemberState]
    MEMBER_STATE_DEAD: _ClassVar[MemberState]
    MEMBER_STATE_LEFT: _ClassVar[MemberState]

class MemberRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_ROLE_UNSPECIFIED: _ClassVar[MemberRole]
    MEMBER_ROLE_GATEWAY: _ClassVar[MemberRole]
    MEMBER_ROLE_REPLICA: _ClassVar[MemberRole]
MEMBER_STATE_UNSPECIFIED: MemberState
MEMBER_STATE_ALIVE: MemberState
MEMBER_STATE_SUSPECT: MemberState
MEMBER_STATE_DEAD: MemberState
MEMBER_STATE_LEFT: MemberState
MEMBER_ROLE_UNSPECIFIED: MemberRole
MEMBER_ROLE_GATEWAY: MemberRole
MEMBER_ROLE_REPLICA: MemberRole

class Packet(_message.Message):
    __slots__ = ("sender_id", "epoch", "incarnation", "view_digest", "load", "packet_number", "ping", "ack", "nack", "ping_req", "join", "sync_offer", "sync_want", "sync_records", "records")
    SENDER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    VIEW_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    PACKET_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    PING_REQ_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    SYNC_OFFER_FIELD_NUMBER: _ClassVar[int]
    SYNC_WANT_FIELD_NUMBER: _ClassVar[int]
    SYNC_RECORDS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    sender_id: str
    epoch: int
    incarnation: int
    view_digest: int
    load: MemberLoad
    packet_number: int
    ping: Ping
    ack: Ack
    nack: Nack
    ping_req: PingReq
    join: Join
    sync_offer: SyncOffer
    sync_want: SyncWant
    sync_records: SyncRecords
    records: _containers.RepeatedCompositeFieldContainer[MemberRecord]
    def __init__(self, sender_id: _Optional[str] = ..., epoch: _Optional[int] = ..., incarnation: _Optional[int] = ..., view_digest: _Optional[int] = ..., load: _Optional[_Union[MemberLoad, _Mapping]] = ..., packet_number: _Optional[int] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., ping_req: _Optional[_Union[PingReq, _Mapping]] = ..., join: _Optional[_Union[Join, _Mapping]] = ..., sync_offer: _Optional[_Union[SyncOffer, _Mapping]] = ..., sync_want: _Optional[_Union[SyncWant, _Mapping]] = ..., sync_records: _Optional[_Union[SyncRecords, _Mapping]] = ..., records: _Optional[_Iterable[_Union[MemberRecord, _Mapping]]] = ...) -> None: ...

class MemberRecord(_message.Message):
    __slots__ = ("member_id", "status", "meta", "load")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    status: MemberStatus
    meta: MemberMeta
    load: MemberLoad
    def __init__(self, member_id: _Optional[str] = ..., status: _Optional[_Union[MemberStatus, _Mapping]] = ..., meta: _Optional[_Union[MemberMeta, _Mapping]] = ..., load: _Optional[_Union[MemberLoad, _Mapping]] = ...) -> None: ...

class MemberStatus(_message.Message):
    __slots__ = ("epoch", "incarnation", "state", "accuser_id")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACCUSER_ID_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    incarnation: int
    state: MemberState
    accuser_id: str
    def __init__(self, epoch: _Optional[int] = ..., incarnation: _Optional[int] = ..., state: _Optional[_Union[MemberState, str]] = ..., accuser_id: _Optional[str] = ...) -> None: ...

class MemberMeta(_message.Message):
    __slots__ = ("epoch", "incarnation", "role", "gossip_address", "grpc_address", "model", "model_version", "weight", "max_capacity", "cordoned", "draining")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    GRPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    incarnation: int
    role: MemberRole
    gossip_address: str
    grpc_address: str
    model: str
    model_version: str
    weight: float
    max_capacity: int
    cordoned: bool
    draining: bool
    def __init__(self, epoch: _Optional[int] = ..., incarnation: _Optional[int] = ..., role: _Optional[_Union[MemberRole, str]] = ..., gossip_address: _Optional[str] = ..., grpc_address: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., weight: _Optional[float] = ..., max_capacity: _Optional[int] = ..., cordoned: _Optional[bool] = ..., draining: _Optional[bool] = ...) -> None: ...

class MemberLoad(_message.Message):
    __slots__ = ("epoch", "sequence", "active_requests")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    sequence: int
    active_requests: int
    def __init__(self, epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., active_requests: _Optional[int] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("sequence", "target_id", "target_epoch")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_EPOCH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    target_id: str
    target_epoch: int
    def __init__(self, sequence: _Optional[int] = ..., target_id: _Optional[str] = ..., target_epoch: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("sequence", "target_id", "target_epoch", "target_incarnation")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TARGET_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    target_id: str
    target_epoch: int
    target_incarnation: int
    def __init__(self, sequence: _Optional[int] = ..., target_id: _Optional[str] = ..., target_epoch: _Optional[int] = ..., target_incarnation: _Optional[int] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("sequence", "target_id")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    target_id: str
    def __init__(self, sequence: _Optional[int] = ..., target_id: _Optional[str] = ...) -> None: ...

class PingReq(_message.Message):
    __slots__ = ("sequence", "target_id", "target_epoch", "target_address")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TARGET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    target_id: str
    target_epoch: int
    target_address: str
    def __init__(self, sequence: _Optional[int] = ..., target_id: _Optional[str] = ..., target_epoch: _Optional[int] = ..., target_address: _Optional[str] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SyncOffer(_message.Message):
    __slots__ = ("after_id", "until_id", "versions")
    AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    UNTIL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    after_id: str
    until_id: str
    versions: _containers.RepeatedCompositeFieldContainer[MemberVersion]
    def __init__(self, after_id: _Optional[str] = ..., until_id: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[MemberVersion, _Mapping]]] = ...) -> None: ...

class MemberVersion(_message.Message):
    __slots__ = ("member_id", "epoch", "incarnation", "state", "meta_incarnation", "meta_digest", "meta_epoch")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    META_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    META_DIGEST_FIELD_NUMBER: _ClassVar[int]
    META_EPOCH_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    epoch: int
    incarnation: int
    state: MemberState
    meta_incarnation: int
    meta_digest: int
    meta_epoch: int
    def __init__(self, member_id: _Optional[str] = ..., epoch: _Optional[int] = ..., incarnation: _Optional[int] = ..., state: _Optional[_Union[MemberState, str]] = ..., meta_incarnation: _Optional[int] = ..., meta_digest: _Optional[int] = ..., meta_epoch: _Optional[int] = ...) -> None: ...

class SyncWant(_message.Message):
    __slots__ = ("member_ids",)
    MEMBER_IDS_FIELD_NUMBER: _ClassVar[int]
    member_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, member_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class SyncRecords(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
