"""The standard services' messages: equal to grpcio's on the wire, and apart from them in the process."""

import itertools
import subprocess
import sys
from typing import Any

import purerpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from inferencegw.rpc.wellknown import Handler, declare, message_type, service_descriptor

MODULES = ("inferencegw.rpc.wellknown", "grpc_health.v1.health_pb2", "grpc_reflection.v1alpha.reflection_pb2")


@pytest.mark.parametrize("order", list(itertools.permutations(MODULES)), ids=" ".join)
def test_the_messages_load_beside_grpcio_s_own_in_any_order(order: tuple[str, ...]) -> None:
    """Whoever imports this package may import grpcio-health-checking and grpcio-reflection too, first or last."""
    imports = "\n".join(f"import {module}" for module in order)
    subprocess.run([sys.executable, "-W", "error", "-c", imports], check=True)


def shape(message: Any) -> list[tuple[object, ...]]:
    """What a message is on the wire, and its parts' names."""
    oneofs = {field.name: oneof.name for oneof in message.oneofs for field in oneof.fields}
    return [
        (field.name, field.number, field.type, field.is_repeated, oneofs.get(field.name)) for field in message.fields
    ]


@pytest.mark.parametrize("name", ["HealthCheckRequest", "HealthCheckResponse"])
def test_the_health_messages_are_the_standard_s(name: str) -> None:
    """Our wording of the proto has the names, numbers and types of the standard one."""
    assert shape(message_type(f"grpc.health.v1.{name}").DESCRIPTOR) == shape(
        health_pb2.DESCRIPTOR.message_types_by_name[name]
    )


@pytest.mark.parametrize("name", sorted(reflection_pb2.DESCRIPTOR.message_types_by_name))
@pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])
def test_the_reflection_messages_are_the_standard_s(package: str, name: str) -> None:
    """Our wording of the protos has the names, numbers and types of the standard ones; v1 and v1alpha have the same."""
    assert shape(message_type(f"{package}.{name}").DESCRIPTOR) == shape(
        reflection_pb2.DESCRIPTOR.message_types_by_name[name]
    )


async def answer(call: object) -> None:
    """A handler."""


def test_a_service_is_declared_with_the_types_and_cardinalities_of_its_descriptor() -> None:
    """A service made by :func:`declare` is what purerpc's generated code would have made of the same proto."""
    check: Handler = answer
    health = declare(service_descriptor("grpc.health.v1.Health"), {"Check": check, "Watch": check})
    signatures = {name: method.signature for name, method in health.methods.items()}
    assert health.name == "grpc.health.v1.Health"
    assert {name: signature.cardinality for name, signature in signatures.items()} == {
        "Check": purerpc.Cardinality.UNARY_UNARY,
        "Watch": purerpc.Cardinality.UNARY_STREAM,
    }
    assert signatures["Watch"].request_type is message_type("grpc.health.v1.HealthCheckRequest")
    assert signatures["Watch"].response_type is message_type("grpc.health.v1.HealthCheckResponse")


def test_a_service_with_a_method_that_nobody_serves_cannot_be_declared() -> None:
    """A method that a later proto adds is noticed at start-up, not by its first caller."""
    with pytest.raises(KeyError, match="Watch"):
        declare(service_descriptor("grpc.health.v1.Health"), {"Check": answer})
