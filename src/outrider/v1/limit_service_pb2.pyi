import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from outrider.v1 import generation_pb2 as _generation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LimitUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIMIT_UNIT_UNSPECIFIED: _ClassVar[LimitUnit]
    LIMIT_UNIT_REQUESTS: _ClassVar[LimitUnit]
    LIMIT_UNIT_TOKENS: _ClassVar[LimitUnit]
    LIMIT_UNIT_NANO_USD: _ClassVar[LimitUnit]
    LIMIT_UNIT_CONCURRENT_REQUESTS: _ClassVar[LimitUnit]

class LimitPeriod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIMIT_PERIOD_UNSPECIFIED: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_MINUTE: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_DAY: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_WEEK: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_MONTH: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_TOTAL: _ClassVar[LimitPeriod]
LIMIT_UNIT_UNSPECIFIED: LimitUnit
LIMIT_UNIT_REQUESTS: LimitUnit
LIMIT_UNIT_TOKENS: LimitUnit
LIMIT_UNIT_NANO_USD: LimitUnit
LIMIT_UNIT_CONCURRENT_REQUESTS: LimitUnit
LIMIT_PERIOD_UNSPECIFIED: LimitPeriod
LIMIT_PERIOD_MINUTE: LimitPeriod
LIMIT_PERIOD_DAY: LimitPeriod
LIMIT_PERIOD_WEEK: LimitPeriod
LIMIT_PERIOD_MONTH: LimitPeriod
LIMIT_PERIOD_TOTAL: LimitPeriod

class GetLimitsRequest(_message.Message):
    __slots__ = ("attribution", "model")
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    attribution: _generation_pb2.Attribution
    model: str
    def __init__(self, attribution: _Optional[_Union[_generation_pb2.Attribution, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class GetLimitsResponse(_message.Message):
    __slots__ = ("limits", "local_share")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_SHARE_FIELD_NUMBER: _ClassVar[int]
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    local_share: bool
    def __init__(self, limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ..., local_share: _Optional[bool] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ("scope", "unit", "period", "limit", "remaining", "reserved", "resets_in", "hard", "tier", "burst")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    RESETS_IN_FIELD_NUMBER: _ClassVar[int]
    HARD_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    scope: str
    unit: LimitUnit
    period: LimitPeriod
    limit: int
    remaining: int
    reserved: int
    resets_in: _duration_pb2.Duration
    hard: bool
    tier: str
    burst: int
    def __init__(self, scope: _Optional[str] = ..., unit: _Optional[_Union[LimitUnit, str]] = ..., period: _Optional[_Union[LimitPeriod, str]] = ..., limit: _Optional[int] = ..., remaining: _Optional[int] = ..., reserved: _Optional[int] = ..., resets_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., hard: _Optional[bool] = ..., tier: _Optional[str] = ..., burst: _Optional[int] = ...) -> None: ...
