import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProviderStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROVIDER_STATUS_UNSPECIFIED: _ClassVar[ProviderStatus]
    PROVIDER_STATUS_SERVING: _ClassVar[ProviderStatus]
    PROVIDER_STATUS_NOT_SERVING: _ClassVar[ProviderStatus]
    PROVIDER_STATUS_DISABLED: _ClassVar[ProviderStatus]

class TargetState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TARGET_STATE_UNSPECIFIED: _ClassVar[TargetState]
    TARGET_STATE_CLOSED: _ClassVar[TargetState]
    TARGET_STATE_HALF_OPEN: _ClassVar[TargetState]
    TARGET_STATE_OPEN: _ClassVar[TargetState]
    TARGET_STATE_PAUSED: _ClassVar[TargetState]
PROVIDER_STATUS_UNSPECIFIED: ProviderStatus
PROVIDER_STATUS_SERVING: ProviderStatus
PROVIDER_STATUS_NOT_SERVING: ProviderStatus
PROVIDER_STATUS_DISABLED: ProviderStatus
TARGET_STATE_UNSPECIFIED: TargetState
TARGET_STATE_CLOSED: TargetState
TARGET_STATE_HALF_OPEN: TargetState
TARGET_STATE_OPEN: TargetState
TARGET_STATE_PAUSED: TargetState

class ProviderTarget(_message.Message):
    __slots__ = ("model", "state", "success_rate", "until")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    model: str
    state: TargetState
    success_rate: float
    until: _timestamp_pb2.Timestamp
    def __init__(self, model: _Optional[str] = ..., state: _Optional[_Union[TargetState, str]] = ..., success_rate: _Optional[float] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Provider(_message.Message):
    __slots__ = ("name", "format", "transport", "base_url", "status", "status_reason", "default_model", "status_changed_at", "targets")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    BASE_URL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATUS_REASON_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    STATUS_CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    name: str
    format: str
    transport: str
    base_url: str
    status: ProviderStatus
    status_reason: str
    default_model: str
    status_changed_at: _timestamp_pb2.Timestamp
    targets: _containers.RepeatedCompositeFieldContainer[ProviderTarget]
    def __init__(self, name: _Optional[str] = ..., format: _Optional[str] = ..., transport: _Optional[str] = ..., base_url: _Optional[str] = ..., status: _Optional[_Union[ProviderStatus, str]] = ..., status_reason: _Optional[str] = ..., default_model: _Optional[str] = ..., status_changed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., targets: _Optional[_Iterable[_Union[ProviderTarget, _Mapping]]] = ...) -> None: ...

class ListProvidersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListProvidersResponse(_message.Message):
    __slots__ = ("providers",)
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    providers: _containers.RepeatedCompositeFieldContainer[Provider]
    def __init__(self, providers: _Optional[_Iterable[_Union[Provider, _Mapping]]] = ...) -> None: ...

class CheckProviderRequest(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: str
    def __init__(self, provider: _Optional[str] = ...) -> None: ...

class CheckProviderResponse(_message.Message):
    __slots__ = ("provider", "latency", "reason")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    provider: Provider
    latency: _duration_pb2.Duration
    reason: str
    def __init__(self, provider: _Optional[_Union[Provider, _Mapping]] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "targets", "context_tokens", "max_output_tokens", "price", "is_default")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    name: str
    targets: _containers.RepeatedScalarFieldContainer[str]
    context_tokens: int
    max_output_tokens: int
    price: Price
    is_default: bool
    def __init__(self, name: _Optional[str] = ..., targets: _Optional[_Iterable[str]] = ..., context_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., price: _Optional[_Union[Price, _Mapping]] = ..., is_default: _Optional[bool] = ...) -> None: ...

class Price(_message.Message):
    __slots__ = ("input_nano_usd_per_million", "output_nano_usd_per_million", "cached_input_nano_usd_per_million", "cache_write_nano_usd_per_million", "source", "as_of", "cache_write_1h_nano_usd_per_million")
    INPUT_NANO_USD_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_NANO_USD_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_NANO_USD_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_NANO_USD_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_1H_NANO_USD_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    input_nano_usd_per_million: int
    output_nano_usd_per_million: int
    cached_input_nano_usd_per_million: int
    cache_write_nano_usd_per_million: int
    source: str
    as_of: str
    cache_write_1h_nano_usd_per_million: int
    def __init__(self, input_nano_usd_per_million: _Optional[int] = ..., output_nano_usd_per_million: _Optional[int] = ..., cached_input_nano_usd_per_million: _Optional[int] = ..., cache_write_nano_usd_per_million: _Optional[int] = ..., source: _Optional[str] = ..., as_of: _Optional[str] = ..., cache_write_1h_nano_usd_per_million: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: str
    def __init__(self, provider: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...
