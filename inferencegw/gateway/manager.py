"""How a replica's process is stopped and started by somebody else: the interface.

The rule: a manager acts on processes and never asks whether they work. What runs, and in which version, the gossip
says; so whoever rolls out waits there, and an order that was given twice does no harm.
"""

from typing import Protocol

__all__ = ["ReplicaManager"]


class ReplicaManager(Protocol):
    """Stops and starts replicas by their ids. See :func:`inferencegw.gateway.managers.open_manager`."""

    async def stop(self, replica_id: str) -> None:
        """Return when the replica's process has ended, at once where it had; it is not to come back by itself.

        Raises:
            ManagerError: it could not be stopped, or not be seen to have; it may be either.
        """

    async def start(self, replica_id: str, version: str) -> None:
        """Return when a stopped replica was asked to start as ``version``; the gossip shows that it is back.

        Raises:
            ManagerError: it could not be asked.
        """
