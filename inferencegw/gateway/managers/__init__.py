"""The replica managers there are, and how an operator names one.

The rule: a name says everything that a manager needs to know beside ids and versions. One that cannot be used is a
:class:`~inferencegw.errors.ConfigError` before anything is asked of anybody; one whose other end does not answer as it
should is a :class:`~inferencegw.errors.ManagerError` before the first replica is stopped.
"""

import ssl
from contextlib import AbstractAsyncContextManager

from inferencegw.errors import ConfigError
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.managers.command import CommandManager
from inferencegw.gateway.managers.supervisor import SupervisorManager

__all__ = ["FORMS", "open_manager"]

FORMS = "HOST:PORT of a supervisor, 'command:STOP ; START', or kubernetes:NAMESPACE/STATEFULSET?..."
"""What a spec may be, for people."""


def open_manager(spec: str, *, tls: ssl.SSLContext | None = None) -> AbstractAsyncContextManager[ReplicaManager]:
    """The manager that ``spec`` names, for the block.

    - ``HOST:PORT``: a supervisor, as ``trio-gw cluster up`` is one; it is spoken to with ``tls`` where that is given.
    - ``command:STOP ; START``: two commands of the operator's.
    - ``kubernetes:NAMESPACE/STATEFULSET?container=NAME&image=...``, or ``&env=NAME``: pods.

    Whoever can choose ``spec`` can run any command: it is for the operator's own command line, never for a peer.

    Raises:
        ConfigError: at once: ``spec`` cannot be used.
        ManagerError: on entering: what it names does not answer, or not as it should.
    """
    kind, _, rest = spec.partition(":")
    match kind:
        case "command":
            return CommandManager.parse(rest).open()
        case "kubernetes":
            # Imported only now: it needs an extra that others need not install.
            try:
                from inferencegw.gateway.managers.kubernetes import Target, open_kubernetes  # noqa: PLC0415
            except ModuleNotFoundError as error:
                raise ConfigError(
                    f"manager = {spec!r}: needs {error.name}: pip install 'inferencegw[kubernetes]'"
                ) from error
            return open_kubernetes(Target.parse(rest))
        case _:
            try:
                return SupervisorManager.parse(spec, tls).open()
            except ConfigError as error:
                raise ConfigError(f"manager = {spec!r}: must be {FORMS}") from error
