"""rpc/trust.py: whose orders are taken, without anything configured."""

import pytest

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import Peer
from inferencegw.rpc.trust import require_trusted


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.10:1", True),
        ("[::1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("192.0.2.1:1", False),
        ("[2001:db8::1]:1", False),
        ("[::ffff:192.0.2.1]:1", False),
        ("0.0.0.0:1", False),
        ("localhost:1", False),
        ("", False),
    ],
)
def test_orders_are_taken_from_the_same_machine_told_by_the_address_alone(address: str, expected: bool) -> None:
    """Both families, and the one mapped into the other; a name is nobody's word for it."""
    if expected:
        require_trusted(Peer(address))
    else:
        with pytest.raises(RpcError) as caught:
            require_trusted(Peer(address))
        assert caught.value.code is StatusCode.PERMISSION_DENIED


def test_a_peer_with_a_certificate_may_give_orders_from_anywhere() -> None:
    """A server takes one only where it was given the authority for it."""
    require_trusted(Peer("192.0.2.1:1", {"subject": ()}))
