"""What the demo asks the gateway."""

from inferencegw.cli._lookout import seen_at
from inferencegw.cli._rollcall import MemberSeen, MembersSeen
from inferencegw.v1 import admin_pb2, gossip_pb2


def test_a_look_says_when_each_state_began_and_how_that_very_process_is_connected() -> None:
    """A connection to an earlier process of the same name is none, and its breaker says nothing."""
    members = [
        admin_pb2.Member(
            member_id=name,
            status=gossip_pb2.MemberStatus(epoch=epoch, state=state),
            meta=gossip_pb2.MemberMeta(grpc_address=f"{name}:1"),
            since=2.5,
        )
        for name, epoch, state in (
            ("r1", 7, gossip_pb2.MEMBER_STATE_ALIVE),
            ("r2", 8, gossip_pb2.MEMBER_STATE_DEAD),
            ("r3", 9, gossip_pb2.MEMBER_STATE_ALIVE),
        )
    ]
    status = admin_pb2.GatewayStatus(
        replicas=[
            admin_pb2.ReplicaStatus(
                replica_id="r1", epoch=7, connected=True, load=2, breaker=admin_pb2.BREAKER_STATE_HALF_OPEN
            ),
            admin_pb2.ReplicaStatus(replica_id="r2", epoch=8, connected=False),
            admin_pb2.ReplicaStatus(replica_id="r3", epoch=5, connected=True, breaker=admin_pb2.BREAKER_STATE_CLOSED),
        ]
    )
    assert seen_at(10.0, admin_pb2.ListMembersResponse(members=members), status) == MembersSeen(
        [
            MemberSeen("r1", "ALIVE", 7, "r1:1", 7.5, connected=True, breaker="HALF_OPEN", load=2),
            MemberSeen("r2", "DEAD", 8, "r2:1", 7.5, connected=False),
            MemberSeen("r3", "ALIVE", 9, "r3:1", 7.5, connected=False),
        ]
    )
