"""Method: a client's view of one rpc, from the service's descriptor."""

import pytest

from inferencegw.rpc.method import Method
from inferencegw.rpc.wellknown import message_type, service_descriptor

HEALTH = service_descriptor("grpc.health.v1.Health")


def test_a_method_has_the_path_and_the_messages_of_its_descriptor() -> None:
    """A client needs nothing but the descriptor of the service and the method's name."""
    assert Method.of(HEALTH, "Check") == Method(
        path="/grpc.health.v1.Health/Check",
        request_type=message_type("grpc.health.v1.HealthCheckRequest"),
        response_type=message_type("grpc.health.v1.HealthCheckResponse"),
    )


def test_a_method_that_the_service_does_not_have_is_an_error_that_says_which_there_are() -> None:
    """A misspelt name is noticed when the module is imported, not as UNIMPLEMENTED by a caller."""
    with pytest.raises(KeyError, match=r"grpc\.health\.v1\.Health has no method 'Chek'; it has Check, Watch"):
        Method.of(HEALTH, "Chek")
