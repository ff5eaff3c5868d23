import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from outrider.v1 import generation_pb2 as _generation_pb2
from outrider.v1 import usage_pb2 as _usage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UsageDimension(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USAGE_DIMENSION_UNSPECIFIED: _ClassVar[UsageDimension]
    USAGE_DIMENSION_HOUR: _ClassVar[UsageDimension]
    USAGE_DIMENSION_DAY: _ClassVar[UsageDimension]
    USAGE_DIMENSION_MONTH: _ClassVar[UsageDimension]
    USAGE_DIMENSION_TENANT: _ClassVar[UsageDimension]
    USAGE_DIMENSION_PROJECT: _ClassVar[UsageDimension]
    USAGE_DIMENSION_AGENT: _ClassVar[UsageDimension]
    USAGE_DIMENSION_MODEL: _ClassVar[UsageDimension]
    USAGE_DIMENSION_PROVIDER: _ClassVar[UsageDimension]
    USAGE_DIMENSION_OUTCOME: _ClassVar[UsageDimension]
USAGE_DIMENSION_UNSPECIFIED: UsageDimension
USAGE_DIMENSION_HOUR: UsageDimension
USAGE_DIMENSION_DAY: UsageDimension
USAGE_DIMENSION_MONTH: UsageDimension
USAGE_DIMENSION_TENANT: UsageDimension
USAGE_DIMENSION_PROJECT: UsageDimension
USAGE_DIMENSION_AGENT: UsageDimension
USAGE_DIMENSION_MODEL: UsageDimension
USAGE_DIMENSION_PROVIDER: UsageDimension
USAGE_DIMENSION_OUTCOME: UsageDimension

class UsageFilter(_message.Message):
    __slots__ = ("start", "end", "tenants", "projects", "agents", "models", "providers", "outcomes")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    tenants: _containers.RepeatedScalarFieldContainer[str]
    projects: _containers.RepeatedScalarFieldContainer[str]
    agents: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedScalarFieldContainer[str]
    providers: _containers.RepeatedScalarFieldContainer[str]
    outcomes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tenants: _Optional[_Iterable[str]] = ..., projects: _Optional[_Iterable[str]] = ..., agents: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[str]] = ..., providers: _Optional[_Iterable[str]] = ..., outcomes: _Optional[_Iterable[str]] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("filter", "group_by")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    filter: UsageFilter
    group_by: _containers.RepeatedScalarFieldContainer[UsageDimension]
    def __init__(self, filter: _Optional[_Union[UsageFilter, _Mapping]] = ..., group_by: _Optional[_Iterable[_Union[UsageDimension, str]]] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("groups", "total", "local_only")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    LOCAL_ONLY_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[UsageGroup]
    total: UsageTotals
    local_only: bool
    def __init__(self, groups: _Optional[_Iterable[_Union[UsageGroup, _Mapping]]] = ..., total: _Optional[_Union[UsageTotals, _Mapping]] = ..., local_only: _Optional[bool] = ...) -> None: ...

class UsageGroup(_message.Message):
    __slots__ = ("values", "totals")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    totals: UsageTotals
    def __init__(self, values: _Optional[_Iterable[str]] = ..., totals: _Optional[_Union[UsageTotals, _Mapping]] = ...) -> None: ...

class UsageTotals(_message.Message):
    __slots__ = ("requests", "usage", "cost", "cost_unknown", "cache_hits")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    COST_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    CACHE_HITS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    usage: _usage_pb2.Usage
    cost: _usage_pb2.Cost
    cost_unknown: int
    cache_hits: int
    def __init__(self, requests: _Optional[int] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., cost: _Optional[_Union[_usage_pb2.Cost, _Mapping]] = ..., cost_unknown: _Optional[int] = ..., cache_hits: _Optional[int] = ...) -> None: ...

class GetCostBreakdownRequest(_message.Message):
    __slots__ = ("filter", "by")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    filter: UsageFilter
    by: UsageDimension
    def __init__(self, filter: _Optional[_Union[UsageFilter, _Mapping]] = ..., by: _Optional[_Union[UsageDimension, str]] = ...) -> None: ...

class GetCostBreakdownResponse(_message.Message):
    __slots__ = ("shares", "total", "cost_unknown", "local_only")
    SHARES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    COST_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    LOCAL_ONLY_FIELD_NUMBER: _ClassVar[int]
    shares: _containers.RepeatedCompositeFieldContainer[CostShare]
    total: _usage_pb2.Cost
    cost_unknown: int
    local_only: bool
    def __init__(self, shares: _Optional[_Iterable[_Union[CostShare, _Mapping]]] = ..., total: _Optional[_Union[_usage_pb2.Cost, _Mapping]] = ..., cost_unknown: _Optional[int] = ..., local_only: _Optional[bool] = ...) -> None: ...

class CostShare(_message.Message):
    __slots__ = ("value", "cost", "share", "requests")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    value: str
    cost: _usage_pb2.Cost
    share: float
    requests: int
    def __init__(self, value: _Optional[str] = ..., cost: _Optional[_Union[_usage_pb2.Cost, _Mapping]] = ..., share: _Optional[float] = ..., requests: _Optional[int] = ...) -> None: ...

class UsageRecord(_message.Message):
    __slots__ = ("request_id", "ended_at", "method", "caller", "attribution", "requested_model", "provider", "model", "outcome", "reason", "finish_reason", "usage", "cost", "cache_status", "attempts", "duration", "time_to_first_content")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_MODEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    CACHE_STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_CONTENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    ended_at: _timestamp_pb2.Timestamp
    method: str
    caller: str
    attribution: _generation_pb2.Attribution
    requested_model: str
    provider: str
    model: str
    outcome: str
    reason: str
    finish_reason: _usage_pb2.FinishReason
    usage: _usage_pb2.Usage
    cost: _usage_pb2.Cost
    cache_status: _generation_pb2.CacheStatus
    attempts: int
    duration: _duration_pb2.Duration
    time_to_first_content: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., method: _Optional[str] = ..., caller: _Optional[str] = ..., attribution: _Optional[_Union[_generation_pb2.Attribution, _Mapping]] = ..., requested_model: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., outcome: _Optional[str] = ..., reason: _Optional[str] = ..., finish_reason: _Optional[_Union[_usage_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., cost: _Optional[_Union[_usage_pb2.Cost, _Mapping]] = ..., cache_status: _Optional[_Union[_generation_pb2.CacheStatus, str]] = ..., attempts: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time_to_first_content: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ExportUsageRequest(_message.Message):
    __slots__ = ("filter", "cursor")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    filter: UsageFilter
    cursor: str
    def __init__(self, filter: _Optional[_Union[UsageFilter, _Mapping]] = ..., cursor: _Optional[str] = ...) -> None: ...

class ExportUsageResponse(_message.Message):
    __slots__ = ("record", "cursor")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    record: UsageRecord
    cursor: str
    def __init__(self, record: _Optional[_Union[UsageRecord, _Mapping]] = ..., cursor: _Optional[str] = ...) -> None: ...

class WatchUsageRequest(_message.Message):
    __slots__ = ("filter",)
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: UsageFilter
    def __init__(self, filter: _Optional[_Union[UsageFilter, _Mapping]] = ...) -> None: ...

class WatchUsageResponse(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: UsageRecord
    def __init__(self, record: _Optional[_Union[UsageRecord, _Mapping]] = ...) -> None: ...
