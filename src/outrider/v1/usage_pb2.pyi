import datetime

from google.protobuf import duration_pb2 as _duration_pb2
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
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_MAX_TOKENS: _ClassVar[FinishReason]
    FINISH_REASON_TOOL_CALLS: _ClassVar[FinishReason]
    FINISH_REASON_CONTENT_FILTER: _ClassVar[FinishReason]
    FINISH_REASON_REFUSAL: _ClassVar[FinishReason]
    FINISH_REASON_TIME_LIMIT: _ClassVar[FinishReason]
    FINISH_REASON_BUDGET: _ClassVar[FinishReason]
    FINISH_REASON_PAUSED: _ClassVar[FinishReason]
    FINISH_REASON_OTHER: _ClassVar[FinishReason]

class UsageSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USAGE_SOURCE_UNSPECIFIED: _ClassVar[UsageSource]
    USAGE_SOURCE_PROVIDER: _ClassVar[UsageSource]
    USAGE_SOURCE_ESTIMATED: _ClassVar[UsageSource]
    USAGE_SOURCE_VOCABULARY: _ClassVar[UsageSource]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_MAX_TOKENS: FinishReason
FINISH_REASON_TOOL_CALLS: FinishReason
FINISH_REASON_CONTENT_FILTER: FinishReason
FINISH_REASON_REFUSAL: FinishReason
FINISH_REASON_TIME_LIMIT: FinishReason
FINISH_REASON_BUDGET: FinishReason
FINISH_REASON_PAUSED: FinishReason
FINISH_REASON_OTHER: FinishReason
USAGE_SOURCE_UNSPECIFIED: UsageSource
USAGE_SOURCE_PROVIDER: UsageSource
USAGE_SOURCE_ESTIMATED: UsageSource
USAGE_SOURCE_VOCABULARY: UsageSource

class Usage(_message.Message):
    __slots__ = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_input_tokens", "reasoning_output_tokens", "source", "cache_write_1h_input_tokens")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_1H_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_input_tokens: int
    reasoning_output_tokens: int
    source: UsageSource
    cache_write_1h_input_tokens: int
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cached_input_tokens: _Optional[int] = ..., cache_write_input_tokens: _Optional[int] = ..., reasoning_output_tokens: _Optional[int] = ..., source: _Optional[_Union[UsageSource, str]] = ..., cache_write_1h_input_tokens: _Optional[int] = ...) -> None: ...

class Cost(_message.Message):
    __slots__ = ("total_nano_usd", "input_nano_usd", "cached_input_nano_usd", "cache_write_nano_usd", "output_nano_usd", "estimated")
    TOTAL_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    INPUT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    total_nano_usd: int
    input_nano_usd: int
    cached_input_nano_usd: int
    cache_write_nano_usd: int
    output_nano_usd: int
    estimated: bool
    def __init__(self, total_nano_usd: _Optional[int] = ..., input_nano_usd: _Optional[int] = ..., cached_input_nano_usd: _Optional[int] = ..., cache_write_nano_usd: _Optional[int] = ..., output_nano_usd: _Optional[int] = ..., estimated: _Optional[bool] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("provider", "model", "outcome", "reason", "upstream_status", "duration", "waited", "hedge", "cost", "usage")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Attempt.Outcome]
        OUTCOME_SUCCEEDED: _ClassVar[Attempt.Outcome]
        OUTCOME_FAILED: _ClassVar[Attempt.Outcome]
        OUTCOME_CANCELLED: _ClassVar[Attempt.Outcome]
        OUTCOME_SKIPPED: _ClassVar[Attempt.Outcome]
        OUTCOME_OUTRUN: _ClassVar[Attempt.Outcome]
    OUTCOME_UNSPECIFIED: Attempt.Outcome
    OUTCOME_SUCCEEDED: Attempt.Outcome
    OUTCOME_FAILED: Attempt.Outcome
    OUTCOME_CANCELLED: Attempt.Outcome
    OUTCOME_SKIPPED: Attempt.Outcome
    OUTCOME_OUTRUN: Attempt.Outcome
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_STATUS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    HEDGE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    outcome: Attempt.Outcome
    reason: str
    upstream_status: int
    duration: _duration_pb2.Duration
    waited: _duration_pb2.Duration
    hedge: bool
    cost: Cost
    usage: Usage
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ..., outcome: _Optional[_Union[Attempt.Outcome, str]] = ..., reason: _Optional[str] = ..., upstream_status: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., waited: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., hedge: _Optional[bool] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("total", "time_to_first_content", "waited")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_CONTENT_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    total: _duration_pb2.Duration
    time_to_first_content: _duration_pb2.Duration
    waited: _duration_pb2.Duration
    def __init__(self, total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time_to_first_content: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., waited: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Warning(_message.Message):
    __slots__ = ("code", "field", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    field: str
    message: str
    def __init__(self, code: _Optional[str] = ..., field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class GenerationFailure(_message.Message):
    __slots__ = ("request_id", "attempts", "last_sequence", "partial_usage", "partial_cost")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_USAGE_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_COST_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    last_sequence: int
    partial_usage: Usage
    partial_cost: Cost
    def __init__(self, request_id: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., last_sequence: _Optional[int] = ..., partial_usage: _Optional[_Union[Usage, _Mapping]] = ..., partial_cost: _Optional[_Union[Cost, _Mapping]] = ...) -> None: ...
