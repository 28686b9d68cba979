"""Who may call what at a gateway: the table of needs, and the keys.

The rule: what a method needs is a line of one table, and a method that has none needs most. A call is judged by its
headers; of one that is refused not even the request is read. ::

    need      without keys                              with a file of keys
    nothing   anybody                                   anybody
    key       anybody                                   any key
    look      as order                                  any key, or a certificate as below
    fellow    another gateway, or as order              likewise
    order     a certificate where an authority for      an admin key where there is one in the file; where there is
              them is configured, else loopback         none as without keys, and a key beside loopback

So what is configured is always asked for: with an admin key no certificate and no address gives orders any more, with
an authority no address. A certificate that gives orders stands for a key, but for calls of clients: whose those are has
to be known.

Fellows are told by the address that the gossip has for them: they have certificates where links are TLS, and no keys.
"""

import enum
import math
from collections.abc import Mapping
from typing import Final

import structlog
import trio

from inferencegw.config import GatewayConfig, is_loopback
from inferencegw.errors import ConfigError, Metadata, RpcError, StatusCode
from inferencegw.gateway.request import refusal
from inferencegw.membership import MembershipService
from inferencegw.membership.datagrams import Nagging
from inferencegw.policy.access import Access, AccessStatistics, Denial, Denied
from inferencegw.policy.keys import ApiKey, KeyTable
from inferencegw.rpc import Peer, ServerCall
from inferencegw.rpc.credentials import shown_key
from inferencegw.rpc.trust import is_trusted
from inferencegw.settings.files import read_named
from inferencegw.swim.member import MemberRole

__all__ = ["NEEDS", "STATUSES", "GatewayGuard", "Need", "read_keys"]

MAX_FILE_BYTES: Final = 2**20
"""Longest file of keys. High: memory, where a wrong file is named. Low: room for some thousand keys only."""

log = structlog.get_logger(__name__)


class Need(enum.Enum):
    """What a caller has to have. See the module's text."""

    NOTHING = enum.auto()
    KEY = enum.auto()
    LOOK = enum.auto()
    FELLOW = enum.auto()
    ORDER = enum.auto()


_ADMIN: Final = "/inferencegw.v1.GatewayAdmin/"

NEEDS: Final[Mapping[str, Need]] = {
    "/grpc.health.v1.Health/Check": Need.NOTHING,  # probes have no keys
    "/grpc.health.v1.Health/Watch": Need.NOTHING,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Need.KEY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Need.KEY,
    "/inferencegw.v1.InferenceGateway/Infer": Need.KEY,
    _ADMIN + "GetStatus": Need.LOOK,
    _ADMIN + "Watch": Need.LOOK,
    _ADMIN + "ListMembers": Need.LOOK,
    _ADMIN + "Why": Need.LOOK,
    _ADMIN + "Lookup": Need.LOOK,
    _ADMIN + "GetTally": Need.FELLOW,
    _ADMIN + "DrainReplica": Need.ORDER,
    _ADMIN + "UndrainReplica": Need.ORDER,
    _ADMIN + "SetLogLevel": Need.ORDER,
    _ADMIN + "Rollout": Need.ORDER,
    _ADMIN + "PauseRollout": Need.ORDER,
}


STATUSES: Final = {
    Denial.NO_KEY: StatusCode.UNAUTHENTICATED,
    Denial.UNKNOWN_KEY: StatusCode.UNAUTHENTICATED,
    Denial.REVOKED: StatusCode.UNAUTHENTICATED,
    Denial.NOT_ADMIN: StatusCode.PERMISSION_DENIED,
    Denial.RATE: StatusCode.RESOURCE_EXHAUSTED,
    Denial.BUSY: StatusCode.RESOURCE_EXHAUSTED,
}

_MESSAGES: Final = {
    Denial.NO_KEY: "a key is needed: metadata `authorization: Bearer KEY`; for trio-gw --key-file or TRIO_GW_KEY",
    Denial.UNKNOWN_KEY: "this key is not known here",
    Denial.REVOKED: "the key of this call was taken back",
    Denial.RATE: "this key has been used too often lately",
    Denial.BUSY: "as many calls as this key may have are running",
}


def read_keys(path: str) -> KeyTable:
    """The keys in the file at ``path``; ConfigError where it cannot be read, or cannot be used."""
    return read_named("keys_file", path, MAX_FILE_BYTES, KeyTable.parse)


class GatewayGuard:
    """The guard of a gateway's server (:class:`inferencegw.rpc.server.Guard`).

    Args:
        config: which keys, and whether certificates are looked at.
        membership: who the other gateways are; None where it does not gossip.

    Raises:
        ConfigError: the file of keys cannot be used.
    """

    def __init__(self, config: GatewayConfig, membership: MembershipService | None) -> None:
        self._path = config.keys_file
        self._access: Access[ServerCall] = Access(KeyTable() if self._path is None else read_keys(self._path))
        self._by_certificate = config.tls_cert is not None and config.tls_ca is not None
        self._membership = membership
        self._nagging = Nagging("calls refused", log)
        if self._path is not None and config.tls_cert is None and not is_loopback(config.host):
            log.warning("keys travel in clear", host=config.host, remedy="--tls-cert and --tls-key")

    # -- for the server ----------------------------------------------------------------------------------------------

    def admit(self, call: ServerCall) -> None:
        """Return if ``call`` may begin; RpcError where it may not."""
        need = NEEDS.get(call.path, Need.ORDER)
        if need is Need.NOTHING or (need is Need.FELLOW and self._is_fellow(call.peer.host)):
            return
        answer = self._judge(call, need)
        if isinstance(answer, Denied):
            raise self._refuse(call, answer)
        if answer is not None:
            call.caller = f"key {answer.name}"  # with a space: no host has one in its name

    def release(self, call: ServerCall) -> None:
        """A call has ended that was admitted."""
        self._access.release(call, trio.current_time())

    def may_look(self, peer: Peer, metadata: Metadata) -> bool:
        """Whether who asks otherwise than by gRPC may have what LOOK is needed for; that is charged to no key."""
        if self._path is None:
            return is_trusted(peer, by_certificate=self._by_certificate)
        shown = shown_key(metadata)
        if shown is None:
            return peer.certificate is not None and not self._access.table.has_admin
        return self._access.table.find_untrusted(shown) is not None

    # -- for the gateway ---------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the file of keys again; one that cannot be used changes nothing and is an error in the log.

        Calls end at once that run with a key which is not there any more, or which may less than before.
        """
        if self._path is None:
            return
        try:
            table = read_keys(self._path)
        except ConfigError as error:
            log.error("keys not changed", reason=str(error))  # noqa: TRY400 - whose fault it is needs no traceback
            return
        for call in self._access.replace(table):
            call.expel(self._refuse(call, Denied(Denial.REVOKED)))
        log.info("keys changed", keys=len(table.keys))

    def revocation(self, metadata: Metadata) -> RpcError | None:
        """Why a client's call that was let in with ``metadata`` may not go on; None if it may.

        It is for calls that no stream delivers at the moment: the others are expelled.
        """
        shown = shown_key(metadata)
        if self._path is None or (shown is not None and self._access.table.find_untrusted(shown) is not None):
            return None
        return refusal(STATUSES[Denial.REVOKED], Denial.REVOKED.value, _MESSAGES[Denial.REVOKED])

    def statistics(self) -> AccessStatistics:
        """Counts for metrics and tests."""
        return self._access.statistics()

    # -- judging -----------------------------------------------------------------------------------------------------

    def _judge(self, call: ServerCall, need: Need) -> ApiKey | Denied | None:
        """With which key ``call`` is let in, None being none; or why it is not."""
        has_keys, has_admin = self._path is not None, self._access.table.has_admin
        gives_orders = need in {Need.ORDER, Need.FELLOW} or (need is Need.LOOK and not has_keys)
        if gives_orders and not has_admin and not is_trusted(call.peer, by_certificate=self._by_certificate):
            return Denied(Denial.NOT_ADMIN)
        if not has_keys:
            return None
        shown = shown_key(call.metadata)
        if shown is None:
            stands_for_a_key = need is not Need.KEY and call.peer.certificate is not None and not has_admin
            return None if stands_for_a_key else Denied(Denial.NO_KEY)
        return self._access.try_admit(call, shown, trio.current_time(), as_admin=gives_orders and has_admin)

    def _is_fellow(self, host: str) -> bool:
        others = [] if self._membership is None else self._membership.cluster.view.others
        return any(one.role == MemberRole.GATEWAY and one.is_live and one.address[0] == host for one in others)

    def _refuse(self, call: ServerCall, denied: Denied) -> RpcError:
        self._access.note(denied.reason)
        self._nagging.add(denied.reason.value, peer=call.peer.host, path=call.path)
        message, retry_after = self._message(denied.reason), denied.retry_after
        if retry_after is not None:
            retry_after = math.ceil(1000 * retry_after) / 1000  # a millisecond too early is too early
        return refusal(STATUSES[denied.reason], denied.reason.value, message, retry_after=retry_after)

    def _message(self, reason: Denial) -> str:
        if reason is not Denial.NOT_ADMIN:
            return _MESSAGES[reason]
        if self._access.table.has_admin:
            return "only the holder of an admin key may do this"
        if self._by_certificate:
            return "only peers with a certificate may do this"
        return "only peers on the same machine may do this"
