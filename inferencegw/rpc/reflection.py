"""grpc.reflection.v1 and v1alpha: how grpcurl and its like learn what a server offers.

The rule: exactly what the given services are made of can be found: their files, and the files those import. Which
symbol is in which file is worked out once, at start-up (:class:`Catalogue`, pure); answering is a dictionary look-up.
Asking the descriptor pools instead would be shorter and wrong twice: protobuf's default pool also holds what is none
of this server's business (grpcio's reflection proto under the very names of ours, where that is imported), and upb's
pool does not find a method by its name, which is what ``grpcurl describe package.Service.Method`` asks for.

v1 and v1alpha differ in their package's name only: one servicer, with the messages of the one or the other.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import purerpc
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message

from inferencegw.errors import StatusCode
from inferencegw.rpc.call import ServerCall
from inferencegw.rpc.wellknown import declare, message_type, service_descriptor

__all__ = ["reflection_services"]

_PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


def reflection_services(services: Iterable[purerpc.Service]) -> list[purerpc.Service]:
    """The reflection services, v1 and v1alpha, which describe ``services`` and themselves."""
    described = [_descriptor(service) for service in services]
    reflections = [service_descriptor(f"{package}.ServerReflection") for package in _PACKAGES]
    catalogue = Catalogue.of([*described, *reflections])
    return [Reflection(package, catalogue).service for package in _PACKAGES]


def _descriptor(service: purerpc.Service) -> ServiceDescriptor:
    """What ``service`` was generated or declared from; it is in the pool of its methods' messages."""
    method, *_ = service.methods.values()
    pool = method.signature.request_type.DESCRIPTOR.file.pool
    descriptor: ServiceDescriptor = pool.FindServiceByName(service.name)
    return descriptor


@attrs.frozen
class Catalogue:
    """What can be found by reflection: the services, their files and every symbol in those."""

    services: tuple[str, ...]
    files: Mapping[str, FileDescriptor]
    symbols: Mapping[str, FileDescriptor]

    @classmethod
    def of(cls, services: Iterable[ServiceDescriptor]) -> "Catalogue":
        """All of ``services``, of the files they are in and of the files those import."""
        services = tuple(services)
        files = {file.name: file for service in services for file in _with_imports(service.file)}
        symbols = {symbol: file for file in files.values() for symbol in _symbols(file)}
        return cls(tuple(sorted(service.full_name for service in services)), files, symbols)


def _with_imports(file: FileDescriptor) -> list[FileDescriptor]:
    """``file`` and what it imports, directly or not: each once, ``file`` first, as clients take the first for it."""
    found = {file.name: file}
    unvisited = [file]
    while unvisited:
        new = {imported.name: imported for imported in unvisited.pop().dependencies if imported.name not in found}
        found.update(new)
        unvisited.extend(new.values())
    return list(found.values())


def _symbols(file: FileDescriptor) -> Iterator[str]:
    """The full name of everything ``file`` defines."""
    proto = FileDescriptorProto.FromString(file.serialized_pb)
    scope = f"{proto.package}." if proto.package else ""
    for message in proto.message_type:
        yield from _message_symbols(message, scope)
    for enum in proto.enum_type:
        yield from _enum_symbols(enum, scope)
    for extension in proto.extension:
        yield scope + extension.name
    for service in proto.service:
        yield scope + service.name
        for method in service.method:
            yield f"{scope}{service.name}.{method.name}"


def _message_symbols(message: DescriptorProto, scope: str) -> Iterator[str]:
    yield scope + message.name
    scope = f"{scope}{message.name}."
    yield from (scope + field.name for field in (*message.field, *message.extension))
    yield from (scope + oneof.name for oneof in message.oneof_decl)
    for nested in message.nested_type:
        yield from _message_symbols(nested, scope)
    for enum in message.enum_type:
        yield from _enum_symbols(enum, scope)


def _enum_symbols(enum: EnumDescriptorProto, scope: str) -> Iterator[str]:
    yield scope + enum.name
    for value in enum.value:
        yield scope + value.name  # an enum's values are its siblings, as in C++


class Reflection:
    """One version of the reflection service."""

    def __init__(self, package: str, catalogue: Catalogue) -> None:
        self._service = service_descriptor(f"{package}.ServerReflection")
        self._response = message_type(f"{package}.ServerReflectionResponse")
        self._catalogue = catalogue

    @property
    def service(self) -> purerpc.Service:
        """What to give to :class:`~inferencegw.rpc.Server`."""
        return declare(self._service, {"ServerReflectionInfo": self._serve})

    async def _serve(self, call: ServerCall) -> None:
        async for request in call.requests():
            await call.send(self.answer(request))

    def answer(self, request: Any) -> Message:
        """The response to one request; what is not found is an error in the response, and the stream goes on."""
        answer: dict[str, object]
        match request.WhichOneof("message_request"):
            case "list_services":
                services = [{"name": name} for name in self._catalogue.services]
                answer = {"list_services_response": {"service": services}}
            case "file_by_filename":
                answer = _file(self._catalogue.files, request.file_by_filename)
            case "file_containing_symbol":
                answer = _file(self._catalogue.symbols, request.file_containing_symbol)
            case "file_containing_extension" | "all_extension_numbers_of_type":
                answer = _error(StatusCode.NOT_FOUND, "no extensions are defined here")
            case _:
                answer = _error(StatusCode.INVALID_ARGUMENT, "the request asks nothing that is known here")
        return self._response(valid_host=request.host, original_request=request, **answer)


def _file(index: Mapping[str, FileDescriptor], name: str) -> dict[str, object]:
    file = index.get(name)
    if file is None:
        return _error(StatusCode.NOT_FOUND, f"{name!r} is not known here")
    return {"file_descriptor_response": {"file_descriptor_proto": [part.serialized_pb for part in _with_imports(file)]}}


def _error(code: StatusCode, message: str) -> dict[str, object]:
    return {"error_response": {"error_code": code, "error_message": message}}
