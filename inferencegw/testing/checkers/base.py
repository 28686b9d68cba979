"""A checker: a watcher with a name and a cluster."""

from typing import TYPE_CHECKING, NoReturn

import trio

from inferencegw.membership import ClusterView
from inferencegw.testing.callers import Witness
from inferencegw.testing.history import Disturbance
from inferencegw.testing.nodes import Node

if TYPE_CHECKING:
    from inferencegw.testing.cluster import TestCluster

__all__ = ["CheckFailed", "Checker"]


class CheckFailed(AssertionError):
    """A promise was broken; the message has the checker's name and the time."""


class Checker(Witness):
    """Looks on from the start of a cluster to its end. Everything here may be overridden, and does nothing.

    A method that finds something wrong calls :meth:`require` or :meth:`fail`. Those that are called from inside the
    scheduler (:meth:`on_step`, :meth:`view_changed`) must be quick and must not change anything.
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

    def on_step(self) -> None:
        """A task has run until it waits. Overridden only by who must see every step: it is called very often."""

    def settled(self) -> None:
        """Everything was mended, and there has been time for that to show."""

    def finished(self) -> None:
        """Every client, gateway and replica has ended."""
