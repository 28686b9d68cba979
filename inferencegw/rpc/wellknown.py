"""The standard gRPC services' messages, in a descriptor pool of their own.

``wellknown.binpb`` is a FileDescriptorSet that ``nox -s protos`` makes from ``protos/grpc/``: grpc.health.v1 and
grpc.reflection.v1 and v1alpha in our own wording. The rule: none of it ever enters protobuf's default pool. There can
be only one file of a name and one symbol of a name in a pool, and grpcio-health-checking and grpcio-reflection put
theirs into the default one; whoever imports both this package and one of those would get a TypeError at the second
import, whichever it was. In a private pool the two exist side by side, and their bytes are the same on the wire.

purerpc's plugin generates modules that use the default pool, so these services are declared by hand:
:func:`declare` makes of a service descriptor and its handlers what the generated ``Servicer.service`` makes.
"""

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any, TypeAlias

import purerpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

__all__ = ["Handler", "declare", "message_type", "service_descriptor"]

Handler: TypeAlias = Callable[[Any], Awaitable[Message | None]]
"""What serves one method: it gets the call, and returns the response where that is a single message."""


def _private_pool(descriptor_set: bytes) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptor_set).file:  # protoc writes a file after those it imports
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _private_pool(files(__package__).joinpath("wellknown.binpb").read_bytes())


def message_type(full_name: str) -> type[Message]:
    """The class of a standard message, such as ``grpc.health.v1.HealthCheckRequest``."""
    return GetMessageClass(_POOL.FindMessageTypeByName(full_name))


def service_descriptor(full_name: str) -> ServiceDescriptor:
    """The descriptor of a standard service, such as ``grpc.health.v1.Health``."""
    return _POOL.FindServiceByName(full_name)


def declare(descriptor: ServiceDescriptor, handlers: Mapping[str, Handler]) -> purerpc.Service:
    """Declare a service as purerpc's generated code would; ``handlers`` has one for every method, by its name."""
    service = purerpc.Service(descriptor.full_name)
    for method in descriptor.methods:
        service.add_method(method.name, handlers[method.name], _signature(method))
    return service


def _signature(method: MethodDescriptor) -> purerpc.RPCSignature:
    cardinality = purerpc.Cardinality.get_cardinality_for(
        request_stream=method.client_streaming, response_stream=method.server_streaming
    )
    return purerpc.RPCSignature(cardinality, GetMessageClass(method.input_type), GetMessageClass(method.output_type))
