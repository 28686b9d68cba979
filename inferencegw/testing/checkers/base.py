"""A checker: a watcher with a name and a cluster."""

from typing import TYPE_CHECKING, Final, NoReturn

import trio

from inferencegw.membership import ClusterView
from inferencegw.testing.callers import Witness
from inferencegw.testing.history import Disturbance
from inferencegw.testing.nodes import Node
from inferencegw.v1.admin_pb2 import RolloutReceipt

if TYPE_CHECKING:
    from inferencegw.testing.cluster import TestCluster

__all__ = ["LOOK", "CheckFailed", "Checker"]

LOOK: Final = 0.1
"""Seconds between two looks."""


class CheckFailed(AssertionError):
    """A promise was broken; the message has the checker's name and the time."""


class Checker(Witness):
    """Looks on from the start of a cluster to its end. Everything here may be overridden, and does nothing.

    A method that finds something wrong calls :meth:`require` or :meth:`fail`. Those that are called from inside the
    scheduler (:meth:`node_stepped`, :meth:`look`, :meth:`view_changed`) must be quick and must not change anything.
    """

    def __init__(self, cluster: "TestCluster") -> None:
        self.cluster = cluster

    def require(self, condition: object, message: str) -> None:
        """Fail unless ``condition``."""
        if not condition:
            self.fail(message)

    def fail(self, message: str) -> NoReturn:
        """Raise CheckFailed."""
        raise CheckFailed(f"{type(self).__name__}: at {trio.current_time():.6f} s: {message}")

    def node_started(self, node: Node) -> None:
        """It is ready."""

    def node_ended(self, node: Node) -> None:
        """It has crashed, or left."""

    def disturbed(self, disturbance: Disturbance) -> None:
        """Something is about to be done to the cluster."""

    def view_changed(self, node: Node, before: ClusterView | None, view: ClusterView) -> None:
        """``node`` has published ``view``, and ``before`` before that."""

    def node_stepped(self, node: Node) -> None:
        """A task of ``node`` has run until it waits, or one of the story's, which may do anything to any node.

        Overridden only by who must see every step: it is called very often.
        """

    def look(self, now: float) -> None:
        """A tenth of a second has passed since the last look, on trio's clock, which shows ``now``."""

    def receipt_given(self, receipt: RolloutReceipt) -> None:
        """An operator was given it, just now."""

    def settled(self) -> None:
        """Everything was mended, and there has been time for that to show."""

    def finished(self) -> None:
        """Every client, gateway and replica has ended."""
