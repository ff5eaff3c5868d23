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

class RouteStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROUTE_STRATEGY_UNSPECIFIED: _ClassVar[RouteStrategy]
    ROUTE_STRATEGY_ORDERED: _ClassVar[RouteStrategy]
    ROUTE_STRATEGY_WEIGHTED: _ClassVar[RouteStrategy]
    ROUTE_STRATEGY_LEAST_LATENCY: _ClassVar[RouteStrategy]
    ROUTE_STRATEGY_CHEAPEST: _ClassVar[RouteStrategy]
    ROUTE_STRATEGY_MOST_AVAILABLE: _ClassVar[RouteStrategy]
ROUTE_STRATEGY_UNSPECIFIED: RouteStrategy
ROUTE_STRATEGY_ORDERED: RouteStrategy
ROUTE_STRATEGY_WEIGHTED: RouteStrategy
ROUTE_STRATEGY_LEAST_LATENCY: RouteStrategy
ROUTE_STRATEGY_CHEAPEST: RouteStrategy
ROUTE_STRATEGY_MOST_AVAILABLE: RouteStrategy

class Route(_message.Message):
    __slots__ = ("name", "strategy", "targets", "changed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    name: str
    strategy: RouteStrategy
    targets: _containers.RepeatedCompositeFieldContainer[RouteTarget]
    changed: bool
    def __init__(self, name: _Optional[str] = ..., strategy: _Optional[_Union[RouteStrategy, str]] = ..., targets: _Optional[_Iterable[_Union[RouteTarget, _Mapping]]] = ..., changed: _Optional[bool] = ...) -> None: ...

class RouteTarget(_message.Message):
    __slots__ = ("target", "weight", "available", "success_rate", "time_to_first_token")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    target: str
    weight: float
    available: bool
    success_rate: float
    time_to_first_token: _duration_pb2.Duration
    def __init__(self, target: _Optional[str] = ..., weight: _Optional[float] = ..., available: _Optional[bool] = ..., success_rate: _Optional[float] = ..., time_to_first_token: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListRoutesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRoutesResponse(_message.Message):
    __slots__ = ("routes",)
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class ExplainRouteRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: _generation_pb2.GenerateRequest
    def __init__(self, request: _Optional[_Union[_generation_pb2.GenerateRequest, _Mapping]] = ...) -> None: ...

class ExplainRouteResponse(_message.Message):
    __slots__ = ("route", "strategy", "plan", "left_out")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    route: str
    strategy: RouteStrategy
    plan: _containers.RepeatedCompositeFieldContainer[PlannedTarget]
    left_out: _containers.RepeatedCompositeFieldContainer[PlannedTarget]
    def __init__(self, route: _Optional[str] = ..., strategy: _Optional[_Union[RouteStrategy, str]] = ..., plan: _Optional[_Iterable[_Union[PlannedTarget, _Mapping]]] = ..., left_out: _Optional[_Iterable[_Union[PlannedTarget, _Mapping]]] = ...) -> None: ...

class PlannedTarget(_message.Message):
    __slots__ = ("target", "why")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    target: str
    why: str
    def __init__(self, target: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class SetRouteWeightsRequest(_message.Message):
    __slots__ = ("route", "weights")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    route: str
    weights: _containers.ScalarMap[str, float]
    def __init__(self, route: _Optional[str] = ..., weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class SetRouteWeightsResponse(_message.Message):
    __slots__ = ("route",)
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    route: Route
    def __init__(self, route: _Optional[_Union[Route, _Mapping]] = ...) -> None: ...

class ActivateTargetRequest(_message.Message):
    __slots__ = ("route", "target")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    route: str
    target: str
    def __init__(self, route: _Optional[str] = ..., target: _Optional[str] = ...) -> None: ...

class ActivateTargetResponse(_message.Message):
    __slots__ = ("route",)
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    route: Route
    def __init__(self, route: _Optional[_Union[Route, _Mapping]] = ...) -> None: ...
