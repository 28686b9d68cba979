"""Taking part in the gossip: the shell around :mod:`inferencegw.swim`, on trio.

The rule: :class:`MembershipService` is one task with one UDP socket, and the only one that touches the protocol's state
machine. Everybody else looks at the immutable :class:`ClusterView` that it publishes, or waits for one that they want.
"""

from inferencegw.membership.service import MembershipService
from inferencegw.membership.view import Cluster, ClusterView, Member

__all__ = ["Cluster", "ClusterView", "Member", "MembershipService"]
