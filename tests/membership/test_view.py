"""membership/view.py: views do not change, and waiting is for a state."""

import trio
import trio.testing

from inferencegw.membership import Cluster, ClusterView, Member
from inferencegw.swim.member import MemberRole, MemberState, Meta, Record, Status
from tests.membership.scripted import record
from tests.membership.support import ALIVE, DEAD, LEFT, SUSPECT


def a_view(**states: MemberState) -> ClusterView:
    """What member ``n1`` sees."""
    members = {name: Member(record(name, state), True, None, 0.0) for name, state in states.items()}
    return ClusterView("n1", members)


def test_a_member_says_what_its_record_says() -> None:
    """The names that everybody uses, from one place."""
    meta = Meta(role=MemberRole.REPLICA, address=("10.0.0.1", 7), grpc_address="r1:1", model="m")
    one = Member(Record("r1", Status(5, 3, SUSPECT, "n1"), meta), heard_from=False, rtt=0.5, since=9.0)
    assert (one.member_id, one.role, one.address, one.grpc_address) == (
        "r1",
        MemberRole.REPLICA,
        ("10.0.0.1", 7),
        "r1:1",
    )
    assert (one.state, one.epoch, one.incarnation, one.load, one.is_live) == (SUSPECT, 5, 3, None, True)


def test_a_member_that_has_said_nothing_of_itself_has_no_role() -> None:
    """Its place in the view is a tombstone's."""
    one = Member(Record("r1", Status(5, 3, DEAD)), heard_from=False, rtt=None, since=0.0)
    assert (one.role, one.grpc_address, one.is_live) == (MemberRole.UNSPECIFIED, "", False)


def test_a_view_tells_the_others_the_replicas_and_whether_there_is_company() -> None:
    """The dead are no company."""
    view = a_view(n1=ALIVE, n2=DEAD, n3=LEFT)
    assert [one.member_id for one in view.others] == ["n2", "n3"]
    assert view.is_alone
    assert not a_view(n1=ALIVE, n2=SUSPECT).is_alone
    assert (view.state_of("n2"), view.state_of("n9")) == (DEAD, None)
    assert view.replicas == []


async def test_waiting_returns_the_view_in_which_the_predicate_holds() -> None:
    """At once if it holds already; later views do not change the one that was returned."""
    cluster = Cluster()
    cluster.publish(a_view(n1=ALIVE))
    view = await cluster.wait_until(lambda view: "n1" in view.members)
    cluster.publish(a_view(n1=ALIVE, n2=ALIVE))
    assert list(view.members) == ["n1"]
    assert list(cluster.view.members) == ["n1", "n2"]


async def test_a_state_that_has_passed_is_not_returned(nursery: trio.Nursery) -> None:
    """Who is woken by a view that is replaced before it runs, asks the later one."""
    cluster = Cluster()
    seen: list[ClusterView] = []

    async def wait() -> None:
        seen.append(await cluster.wait_until(lambda view: view.state_of("n2") is DEAD))

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    cluster.publish(a_view(n2=DEAD))
    cluster.publish(a_view(n2=ALIVE))
    await trio.testing.wait_all_tasks_blocked()
    assert seen == []
    cluster.publish(final := a_view(n2=DEAD))
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [final]
