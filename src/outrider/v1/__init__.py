"""The `outrider.v1` API: every message and enum value, generated from `proto/outrider/v1`.

These messages are the domain types of the whole sidecar; there is no second set. The gRPC stubs and
servicers are in `<name>_service_pb2_grpc`.
"""

from outrider.v1.cache_service_pb2 import *
from outrider.v1.content_pb2 import *
from outrider.v1.event_service_pb2 import *
from outrider.v1.generation_pb2 import *
from outrider.v1.generation_service_pb2 import *
from outrider.v1.job_service_pb2 import *
from outrider.v1.limit_service_pb2 import *
from outrider.v1.provider_service_pb2 import *
from outrider.v1.route_service_pb2 import *
from outrider.v1.usage_pb2 import *
from outrider.v1.usage_service_pb2 import *
