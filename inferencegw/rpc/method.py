"""A client's view of one rpc: where to send the request, and what goes in and comes out.

The rule: a method is looked up in the service's descriptor, once, when the module that uses it is imported. A path
written by hand would be a second copy of the proto, and a wrong one is only noticed as UNIMPLEMENTED at run time.
"""

import attrs
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

__all__ = ["Method"]


@attrs.frozen
class Method:
    """One rpc of one service."""

    path: str
    """The request's ``:path``, ``/package.Service/Method``."""
    request_type: type[Message]
    response_type: type[Message]

    @classmethod
    def of(cls, service: ServiceDescriptor, name: str) -> "Method":
        """The method called ``name``; KeyError, with the names there are, where the service has none of that name.

        For example ``Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "Generate")``.
        """
        method = service.methods_by_name.get(name)
        if method is None:
            raise KeyError(f"{service.full_name} has no method {name!r}; it has {', '.join(service.methods_by_name)}")
        return cls(
            path=f"/{service.full_name}/{method.name}",
            request_type=GetMessageClass(method.input_type),
            response_type=GetMessageClass(method.output_type),
        )
