import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from outrider.v1 import content_pb2 as _content_pb2
from outrider.v1 import usage_pb2 as _usage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CachePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_POLICY_UNSPECIFIED: _ClassVar[CachePolicy]
    CACHE_POLICY_DEFAULT: _ClassVar[CachePolicy]
    CACHE_POLICY_BYPASS: _ClassVar[CachePolicy]
    CACHE_POLICY_REFRESH: _ClassVar[CachePolicy]
    CACHE_POLICY_ONLY: _ClassVar[CachePolicy]
    CACHE_POLICY_USE: _ClassVar[CachePolicy]

class UnavailabilityPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNAVAILABILITY_POLICY_UNSPECIFIED: _ClassVar[UnavailabilityPolicy]
    UNAVAILABILITY_POLICY_FAIL: _ClassVar[UnavailabilityPolicy]
    UNAVAILABILITY_POLICY_QUEUE: _ClassVar[UnavailabilityPolicy]

class CacheStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_STATUS_UNSPECIFIED: _ClassVar[CacheStatus]
    CACHE_STATUS_MISS: _ClassVar[CacheStatus]
    CACHE_STATUS_HIT: _ClassVar[CacheStatus]
    CACHE_STATUS_STALE: _ClassVar[CacheStatus]
    CACHE_STATUS_BYPASS: _ClassVar[CacheStatus]
CACHE_POLICY_UNSPECIFIED: CachePolicy
CACHE_POLICY_DEFAULT: CachePolicy
CACHE_POLICY_BYPASS: CachePolicy
CACHE_POLICY_REFRESH: CachePolicy
CACHE_POLICY_ONLY: CachePolicy
CACHE_POLICY_USE: CachePolicy
UNAVAILABILITY_POLICY_UNSPECIFIED: UnavailabilityPolicy
UNAVAILABILITY_POLICY_FAIL: UnavailabilityPolicy
UNAVAILABILITY_POLICY_QUEUE: UnavailabilityPolicy
CACHE_STATUS_UNSPECIFIED: CacheStatus
CACHE_STATUS_MISS: CacheStatus
CACHE_STATUS_HIT: CacheStatus
CACHE_STATUS_STALE: CacheStatus
CACHE_STATUS_BYPASS: CacheStatus

class GenerateRequest(_message.Message):
    __slots__ = ("model", "messages", "tools", "tool_choice", "response_format", "sampling", "reasoning", "cache_policy", "unavailability_policy", "fallback", "attribution", "idempotency_key", "resumable", "sticky_key")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    CACHE_POLICY_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABILITY_POLICY_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    RESUMABLE_FIELD_NUMBER: _ClassVar[int]
    STICKY_KEY_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_content_pb2.Message]
    tools: _containers.RepeatedCompositeFieldContainer[_content_pb2.Tool]
    tool_choice: _content_pb2.ToolChoice
    response_format: ResponseFormat
    sampling: Sampling
    reasoning: ReasoningOptions
    cache_policy: CachePolicy
    unavailability_policy: UnavailabilityPolicy
    fallback: FallbackOptions
    attribution: Attribution
    idempotency_key: str
    resumable: bool
    sticky_key: str
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_content_pb2.Message, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_content_pb2.Tool, _Mapping]]] = ..., tool_choice: _Optional[_Union[_content_pb2.ToolChoice, _Mapping]] = ..., response_format: _Optional[_Union[ResponseFormat, _Mapping]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., reasoning: _Optional[_Union[ReasoningOptions, _Mapping]] = ..., cache_policy: _Optional[_Union[CachePolicy, str]] = ..., unavailability_policy: _Optional[_Union[UnavailabilityPolicy, str]] = ..., fallback: _Optional[_Union[FallbackOptions, _Mapping]] = ..., attribution: _Optional[_Union[Attribution, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., resumable: _Optional[bool] = ..., sticky_key: _Optional[str] = ...) -> None: ...

class ResponseFormat(_message.Message):
    __slots__ = ("text", "json_object", "json_schema")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    JSON_OBJECT_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    text: TextFormat
    json_object: JsonObjectFormat
    json_schema: JsonSchemaFormat
    def __init__(self, text: _Optional[_Union[TextFormat, _Mapping]] = ..., json_object: _Optional[_Union[JsonObjectFormat, _Mapping]] = ..., json_schema: _Optional[_Union[JsonSchemaFormat, _Mapping]] = ...) -> None: ...

class TextFormat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JsonObjectFormat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JsonSchemaFormat(_message.Message):
    __slots__ = ("name", "json_schema", "description", "strict")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    name: str
    json_schema: str
    description: str
    strict: bool
    def __init__(self, name: _Optional[str] = ..., json_schema: _Optional[str] = ..., description: _Optional[str] = ..., strict: _Optional[bool] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "max_output_tokens", "stop", "seed", "frequency_penalty", "presence_penalty")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    max_output_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    frequency_penalty: float
    presence_penalty: float
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., frequency_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ...) -> None: ...

class ReasoningOptions(_message.Message):
    __slots__ = ("effort", "budget_tokens")
    class Effort(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EFFORT_UNSPECIFIED: _ClassVar[ReasoningOptions.Effort]
        EFFORT_NONE: _ClassVar[ReasoningOptions.Effort]
        EFFORT_MINIMAL: _ClassVar[ReasoningOptions.Effort]
        EFFORT_LOW: _ClassVar[ReasoningOptions.Effort]
        EFFORT_MEDIUM: _ClassVar[ReasoningOptions.Effort]
        EFFORT_HIGH: _ClassVar[ReasoningOptions.Effort]
        EFFORT_MAX: _ClassVar[ReasoningOptions.Effort]
    EFFORT_UNSPECIFIED: ReasoningOptions.Effort
    EFFORT_NONE: ReasoningOptions.Effort
    EFFORT_MINIMAL: ReasoningOptions.Effort
    EFFORT_LOW: ReasoningOptions.Effort
    EFFORT_MEDIUM: ReasoningOptions.Effort
    EFFORT_HIGH: ReasoningOptions.Effort
    EFFORT_MAX: ReasoningOptions.Effort
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    effort: ReasoningOptions.Effort
    budget_tokens: int
    def __init__(self, effort: _Optional[_Union[ReasoningOptions.Effort, str]] = ..., budget_tokens: _Optional[int] = ...) -> None: ...

class FallbackOptions(_message.Message):
    __slots__ = ("disabled", "models", "on_content_filter")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    ON_CONTENT_FILTER_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    models: _containers.RepeatedScalarFieldContainer[str]
    on_content_filter: bool
    def __init__(self, disabled: _Optional[bool] = ..., models: _Optional[_Iterable[str]] = ..., on_content_filter: _Optional[bool] = ...) -> None: ...

class Attribution(_message.Message):
    __slots__ = ("tenant", "project", "agent", "user", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    project: str
    agent: str
    user: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, tenant: _Optional[str] = ..., project: _Optional[str] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("sequence", "started", "text_delta", "reasoning_delta", "tool_call_delta", "opaque_delta", "completed", "queued")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    TEXT_DELTA_FIELD_NUMBER: _ClassVar[int]
    REASONING_DELTA_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_DELTA_FIELD_NUMBER: _ClassVar[int]
    OPAQUE_DELTA_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    started: Started
    text_delta: TextDelta
    reasoning_delta: ReasoningDelta
    tool_call_delta: ToolCallDelta
    opaque_delta: OpaqueDelta
    completed: Completed
    queued: Queued
    def __init__(self, sequence: _Optional[int] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., text_delta: _Optional[_Union[TextDelta, _Mapping]] = ..., reasoning_delta: _Optional[_Union[ReasoningDelta, _Mapping]] = ..., tool_call_delta: _Optional[_Union[ToolCallDelta, _Mapping]] = ..., opaque_delta: _Optional[_Union[OpaqueDelta, _Mapping]] = ..., completed: _Optional[_Union[Completed, _Mapping]] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("job_id", "reason", "expires_at")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reason: str
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., reason: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("request_id", "provider", "model", "attempt", "cache_status", "cache_age", "replayed")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CACHE_STATUS_FIELD_NUMBER: _ClassVar[int]
    CACHE_AGE_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    provider: str
    model: str
    attempt: int
    cache_status: CacheStatus
    cache_age: _duration_pb2.Duration
    replayed: bool
    def __init__(self, request_id: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., attempt: _Optional[int] = ..., cache_status: _Optional[_Union[CacheStatus, str]] = ..., cache_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class TextDelta(_message.Message):
    __slots__ = ("text", "part", "signature", "signed_by")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BY_FIELD_NUMBER: _ClassVar[int]
    text: str
    part: int
    signature: bytes
    signed_by: str
    def __init__(self, text: _Optional[str] = ..., part: _Optional[int] = ..., signature: _Optional[bytes] = ..., signed_by: _Optional[str] = ...) -> None: ...

class ReasoningDelta(_message.Message):
    __slots__ = ("text", "part", "signature", "redacted", "signed_by")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    REDACTED_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BY_FIELD_NUMBER: _ClassVar[int]
    text: str
    part: int
    signature: bytes
    redacted: bytes
    signed_by: str
    def __init__(self, text: _Optional[str] = ..., part: _Optional[int] = ..., signature: _Optional[bytes] = ..., redacted: _Optional[bytes] = ..., signed_by: _Optional[str] = ...) -> None: ...

class ToolCallDelta(_message.Message):
    __slots__ = ("part", "id", "name", "arguments_json", "signature", "signed_by")
    PART_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BY_FIELD_NUMBER: _ClassVar[int]
    part: int
    id: str
    name: str
    arguments_json: str
    signature: bytes
    signed_by: str
    def __init__(self, part: _Optional[int] = ..., id: _Optional[str] = ..., name: _Optional[str] = ..., arguments_json: _Optional[str] = ..., signature: _Optional[bytes] = ..., signed_by: _Optional[str] = ...) -> None: ...

class OpaqueDelta(_message.Message):
    __slots__ = ("part", "opaque", "signed_by")
    PART_FIELD_NUMBER: _ClassVar[int]
    OPAQUE_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BY_FIELD_NUMBER: _ClassVar[int]
    part: int
    opaque: _content_pb2.OpaquePart
    signed_by: str
    def __init__(self, part: _Optional[int] = ..., opaque: _Optional[_Union[_content_pb2.OpaquePart, _Mapping]] = ..., signed_by: _Optional[str] = ...) -> None: ...

class Completed(_message.Message):
    __slots__ = ("finish_reason", "provider_finish_reason", "usage", "cost", "attempts", "timings", "response_id", "response_model", "warnings", "stop_sequence")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_MODEL_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    STOP_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    finish_reason: _usage_pb2.FinishReason
    provider_finish_reason: str
    usage: _usage_pb2.Usage
    cost: _usage_pb2.Cost
    attempts: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Attempt]
    timings: _usage_pb2.Timings
    response_id: str
    response_model: str
    warnings: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Warning]
    stop_sequence: str
    def __init__(self, finish_reason: _Optional[_Union[_usage_pb2.FinishReason, str]] = ..., provider_finish_reason: _Optional[str] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., cost: _Optional[_Union[_usage_pb2.Cost, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[_usage_pb2.Attempt, _Mapping]]] = ..., timings: _Optional[_Union[_usage_pb2.Timings, _Mapping]] = ..., response_id: _Optional[str] = ..., response_model: _Optional[str] = ..., warnings: _Optional[_Iterable[_Union[_usage_pb2.Warning, _Mapping]]] = ..., stop_sequence: _Optional[str] = ...) -> None: ...
