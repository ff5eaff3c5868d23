from outrider.v1 import content_pb2 as _content_pb2
from outrider.v1 import generation_pb2 as _generation_pb2
from outrider.v1 import usage_pb2 as _usage_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResumeGenerateRequest(_message.Message):
    __slots__ = ("request_id", "after_sequence")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    after_sequence: int
    def __init__(self, request_id: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class ResumeGenerateResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _generation_pb2.GenerateResponse
    def __init__(self, event: _Optional[_Union[_generation_pb2.GenerateResponse, _Mapping]] = ...) -> None: ...

class CompleteRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: _generation_pb2.GenerateRequest
    def __init__(self, request: _Optional[_Union[_generation_pb2.GenerateRequest, _Mapping]] = ...) -> None: ...

class CompleteResponse(_message.Message):
    __slots__ = ("started", "message", "completed")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    started: _generation_pb2.Started
    message: _content_pb2.Message
    completed: _generation_pb2.Completed
    def __init__(self, started: _Optional[_Union[_generation_pb2.Started, _Mapping]] = ..., message: _Optional[_Union[_content_pb2.Message, _Mapping]] = ..., completed: _Optional[_Union[_generation_pb2.Completed, _Mapping]] = ...) -> None: ...

class CountTokensRequest(_message.Message):
    __slots__ = ("request", "method")
    class Method(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        METHOD_UNSPECIFIED: _ClassVar[CountTokensRequest.Method]
        METHOD_LOCAL: _ClassVar[CountTokensRequest.Method]
        METHOD_PROVIDER: _ClassVar[CountTokensRequest.Method]
    METHOD_UNSPECIFIED: CountTokensRequest.Method
    METHOD_LOCAL: CountTokensRequest.Method
    METHOD_PROVIDER: CountTokensRequest.Method
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    request: _generation_pb2.GenerateRequest
    method: CountTokensRequest.Method
    def __init__(self, request: _Optional[_Union[_generation_pb2.GenerateRequest, _Mapping]] = ..., method: _Optional[_Union[CountTokensRequest.Method, str]] = ...) -> None: ...

class CountTokensResponse(_message.Message):
    __slots__ = ("input_tokens", "source", "provider", "model")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    source: _usage_pb2.UsageSource
    provider: str
    model: str
    def __init__(self, input_tokens: _Optional[int] = ..., source: _Optional[_Union[_usage_pb2.UsageSource, str]] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...
