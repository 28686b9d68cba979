"""Configuration: frozen attrs classes, valid by construction.

The rule: an object of one of these classes cannot hold a value that does not work; a bad one raises
:class:`~inferencegw.errors.ConfigError` naming the key, the value and what is allowed. Where values come from (flags,
environment, a file) is not known here. Seconds are plain floats; other units are in the name. Each field's metadata
says what a high and a low value cost, for ``--help`` and the reference.
"""

import ipaddress
import math
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from inferencegw.errors import ConfigError
from inferencegw.policy.attempts import AttemptLimits
from inferencegw.policy.breaker import BreakerLimits
from inferencegw.swim.config import PROFILES, SwimConfig
from inferencegw.swim.meta import address_text

__all__ = [
    "FORMATS",
    "LEVELS",
    "MAX_KEEPALIVE_TIME",
    "GatewayConfig",
    "LogFormat",
    "LogLevel",
    "MembershipConfig",
    "ReplicaConfig",
    "RpcLimits",
    "address_text",
    "is_address",
    "is_loopback",
    "option",
    "split_address",
]


MAX_KEEPALIVE_TIME: Final = 7200.0

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
"""The names of the log's levels, most talkative first."""

LEVELS: Final[tuple[str, ...]] = get_args(LogLevel)

LogFormat: TypeAlias = Literal["logfmt", "json"]
"""How the log is written."""

FORMATS: Final[tuple[str, ...]] = get_args(LogFormat)


def _between(low: float, high: float, unit: str) -> Any:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        # `not (low <= value)` rather than `value < low`: NaN must fail too.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not (low <= value <= high):
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name} = {value!r}: must be a number from {low:g} to {high:g} ({unit})"
            )

    return check


def option(
    default: Any, help: str, *, low: float = 0.0, high: float = math.inf, unit: str = "seconds", **metadata: Any
) -> Any:
    """An attrs field for a number in ``[low, high]``, with the sentence that tells an operator what it costs.

    None is allowed where it is the default. Other metadata: ``reloadable=True`` for what SIGHUP may change; see
    :mod:`inferencegw.settings.options` for flags.
    """
    about = {"help": help, "unit": unit, "low": low, "high": high}
    check = _between(low, high, unit)
    return attrs.field(
        default=default,
        validator=attrs.validators.optional(check) if default is None else check,
        metadata=about | metadata,
    )


@attrs.frozen(kw_only=True)
class RpcLimits:
    """What one gRPC peer may make us hold, send or wait for.

    With the defaults a connection holds at most ``max_streams * stream_window_bytes + max_partial_bytes +
    max_output_bytes`` = 88 MiB as it came over the wire, and only if its peer uses every window to the full and nobody
    reads. (Python's objects come on top: for messages of a few bytes, some ten times their size.)
    """

    max_connections: int = option(1024, "High: more memory and descriptors under attack. Low: clients are turned away.", low=1, high=1_000_000, unit="connections")  # fmt: skip
    max_streams: int = option(1024, "Concurrent calls per connection. High: more memory per peer. Low: busy clients queue in their own library.", low=1, high=2**20, unit="calls")  # fmt: skip
    max_message_bytes: int = option(4 * 2**20, "Largest message received. High: one call may hold that much. Low: long prompts are refused.", low=1, high=2**30, unit="bytes")  # fmt: skip
    stream_window_bytes: int = option(65_535, "Unread bytes per call (RFC 9113 5.2). High: memory. Low: a round trip per window.", low=65_535, high=2**24, unit="bytes")  # fmt: skip
    max_partial_bytes: int = option(16 * 2**20, "Bytes of half-received messages per connection. High: memory. Low: fewer large prompts in flight at once.", low=2**14, high=2**31, unit="bytes")  # fmt: skip
    max_output_bytes: int = option(8 * 2**20, "Bytes waiting for a peer that does not read; beyond, it is cut off. High: memory. Low: slow links are cut.", low=2**16, high=2**30, unit="bytes")  # fmt: skip
    max_header_list_bytes: int = option(8192, "Size of a request's headers (RFC 9113 6.5.2). High: memory. Low: clients with large metadata are refused.", low=1024, high=65_536, unit="bytes")  # fmt: skip
    keepalive_time: float = option(30.0, "PING a peer with open calls after this much silence. High: half-open peers are noticed late. Low: idle traffic, and C-core servers object.", low=0.01, high=MAX_KEEPALIVE_TIME)  # fmt: skip
    keepalive_timeout: float = option(10.0, "Give a PING up after this long. High: late detection. Low: a stalled network looks dead.", low=0.01, high=600.0)  # fmt: skip
    handshake_timeout: float = option(10.0, "Time for TLS and the HTTP/2 preface. High: idle sockets are held. Low: slow links cannot connect.", low=0.01, high=600.0)  # fmt: skip
    max_connection_age: float = option(math.inf, "Send a connection away gracefully after this long. High: uneven load after scaling out. Low: reconnects.", low=0.1)  # fmt: skip


def _is_host(text: str) -> bool:
    """Whether ``text`` can be looked up; the resolver raises UnicodeError, not OSError, where it cannot."""
    try:
        return bool(text.encode("idna")) and text.isprintable() and " " not in text
    except UnicodeError:
        return False


def _host(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if not isinstance(value, str) or not _is_host(value):
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name} = {value!r}: must be an IP address or a name that can be looked up"
        )


def split_address(address: str) -> tuple[str, int]:
    """``"host:port"``, or ``"[v6 address]:port"``, in its two parts; ConfigError where it is neither."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # a bare IPv6 address: which colon is the port's would be a guess
    if not (_is_host(host) and port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ConfigError(f"address = {address!r}: must be HOST:PORT with a port from 1 to 65535")
    return host, int(port)


def is_address(host: str) -> bool:
    """Whether ``host`` is an address in figures, and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address of the machine itself; a name is nobody's word for it."""
    if not is_address(host):
        return False
    ip = ipaddress.ip_address(host)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _tuple(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


def _distinct_addresses(instance: object, attribute: "attrs.Attribute[Any]", value: tuple[str, ...]) -> None:
    for address in value:
        split_address(address)
        if value.count(address) > 1:
            raise ConfigError(f"{type(instance).__name__}.{attribute.name} names {address!r} twice: name it once")


def _bytes_of(text: str) -> float:
    """How long ``text`` is in UTF-8; infinite where it has none: a command line may be any bytes."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return math.inf


def _name(low: int) -> Any:
    """A validator: ``low`` to 64 bytes, which is what the protos give a name."""

    def check(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if not isinstance(value, str) or not low <= _bytes_of(value) <= 64:
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name} = {value!r}: must be {low} to 64 bytes long in UTF-8"
            )

    return check


def _profile(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if value not in PROFILES:
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name} = {value!r}: must be one of {', '.join(PROFILES)}"
        )


def _one_of(*names: str) -> Any:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if value not in names:
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name} = {value!r}: must be one of {', '.join(names)}"
            )

    return check


def _host_or_none(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    # A colon is part of an IPv6 address, or begins a port, which does not belong here.
    if value is not None and not (_is_host(value) and len(value) <= 64 and (":" not in value or is_address(value))):
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name} = {value!r}: must be a HOST, without a port, of at most 64 characters"
        )


@attrs.frozen(kw_only=True)
class MembershipConfig:
    """What a process needs to take part in the gossip, which it does if it is given a port for it or somebody to join.

    A :class:`GatewayConfig` and a :class:`ReplicaConfig` are one each.
    """

    id: str = attrs.field(default="", validator=_name(0), metadata={"help": "Name, unique in the cluster and kept over restarts. Empty: HOST:PORT, or a new one each time where the port is 0.", "unit": "name"})  # fmt: skip
    host: str = attrs.field(default="127.0.0.1", validator=_host, metadata={"help": "Address to listen on. Anything but loopback is open to whoever can reach it.", "unit": "address"})  # fmt: skip
    port: int = option(0, "Port to listen on; 0 takes a free one.", low=0, high=65_535, unit="port")
    gossip_port: int | None = attrs.field(default=None, validator=attrs.validators.optional(_between(0, 65_535, "port")), metadata={"help": "UDP port for gossip, 18080 by convention; 0 takes a free one. None: no gossip, or a free one with --join.", "unit": "port"})  # fmt: skip
    join: tuple[str, ...] = attrs.field(default=(), converter=_tuple, validator=_distinct_addresses, metadata={"help": "HOST:PORT where another member receives gossip. Many: joining needs only one of them. A name is looked up at each try.", "unit": "addresses"})  # fmt: skip
    advertise: str | None = attrs.field(default=None, validator=_host_or_none, metadata={"help": "Host at which the others reach this one. None: --host, or the address that faces the network.", "unit": "address"})  # fmt: skip
    keyring_file: str | None = attrs.field(default=None, metadata={"help": "File with the keys that seal the gossip: base64, one a line, the first one seals. It is read again when it changes. None: in clear.", "unit": "file"})  # fmt: skip
    cluster: str = attrs.field(default="", validator=_name(0), metadata={"help": "Name of the cluster: gossip of others is dropped.", "unit": "name"})  # fmt: skip
    gossip_profile: str = attrs.field(default="gateway", validator=_profile, metadata={"help": "How soon silence is a failure, alike on all members: lan is patient, gateway quick, fast for loopback, seed as it once was.", "unit": "name"})  # fmt: skip

    def __attrs_post_init__(self) -> None:
        if not self.gossips:
            unused = {"advertise": None, "keyring_file": None, "cluster": "", "gossip_profile": "gateway"}
            for name, default in unused.items():
                if (value := getattr(self, name)) != default:
                    raise ConfigError(
                        f"{type(self).__name__}.{name} = {value!r}: is of no use without gossip_port or join"
                    )

    @property
    def gossips(self) -> bool:
        """Whether it takes part at all."""
        return self.gossip_port is not None or bool(self.join)

    @property
    def swim(self) -> SwimConfig:
        """The numbers of its profile."""
        return PROFILES[self.gossip_profile]


@attrs.frozen(kw_only=True)
class GatewayConfig(MembershipConfig):
    """One gateway: where it listens, which replicas it uses, and how patient it is."""

    port: int = option(8080, "Port to listen on; 0 takes a free one.", low=0, high=65_535, unit="port")
    http_port: int | None = attrs.field(default=None, validator=attrs.validators.optional(_between(0, 65_535, "port")), metadata={"help": "TCP port for /metrics, /healthz, /readyz and the dashboard, 29000 by convention; 0 takes a free one. None: no HTTP.", "unit": "port"})  # fmt: skip
    replicas: tuple[str, ...] = attrs.field(default=(), converter=_tuple, validator=_distinct_addresses, metadata={"help": "HOST:PORT of each replica. Many: spread the load. None: only those that the gossip finds.", "unit": "addresses", "flag": "--replica"})  # fmt: skip
    drain_timeout: float = option(30.0, "Time for running calls to finish after SIGTERM. High: slow shutdowns. Low: streams are cut.", high=3600.0, reloadable=True)  # fmt: skip
    no_replica_grace: float = option(1.0, "Time a call waits for a replica to appear where none is there. High: callers wait for nothing. Low: calls fail over a reconnect.", high=600.0, reloadable=True)  # fmt: skip
    queue_size: int = option(100, "Calls that wait for a slot of one model; four times that for all. High: long waits. Low: bursts are refused.", low=0, high=100_000, unit="calls", reloadable=True)  # fmt: skip
    queue_timeout: float = option(30.0, "Time a call waits for a slot. High: callers wait in vain. Low: they come again.", low=0.01, high=3600.0, reloadable=True)  # fmt: skip
    hedge: str = attrs.field(default="never", validator=_one_of("never", "race", "adaptive"), metadata={"help": "What is done where a request does not say: one attempt, two at once, or a second one beside a slow first.", "unit": "name", "reloadable": True})  # fmt: skip
    splice: str = attrs.field(default="any", validator=_one_of("any", "same-version"), metadata={"help": "Which replicas may continue what another one began: any of the model, or those of the same version.", "unit": "name", "reloadable": True})  # fmt: skip
    max_attempts: int = option(3, "Attempts in a row that deliver nothing before a call fails. High: slow failures. Low: bad luck fails calls.", low=1, high=100, unit="attempts", reloadable=True)  # fmt: skip
    max_attempts_total: int = option(8, "Failed attempts before a call fails, whatever they delivered. High: calls that cannot end. Low: long ones fail.", low=1, high=1000, unit="attempts", reloadable=True)  # fmt: skip
    poison_limit: int = option(4, "Replica processes that may die under one call. High: one prompt takes many replicas down. Low: bad luck fails calls.", low=1, high=100, unit="replicas", reloadable=True)  # fmt: skip
    first_token_timeout: float = option(60.0, "Silence before an attempt's first token that is a fault. High: a frozen replica is noticed late. Low: long prompts fail.", low=0.1, high=3600.0, reloadable=True)  # fmt: skip
    inter_token_timeout: float = option(30.0, "Silence between two tokens that is a fault; less where a replica's usual gap is known. High: a frozen replica is noticed late. Low: slow ones fail.", low=0.1, high=3600.0, reloadable=True)  # fmt: skip
    client_stall_timeout: float = option(60.0, "Time a client may take nothing of what is there for it. High: it holds a slot. Low: slow links fail.", low=0.1, high=3600.0, reloadable=True)  # fmt: skip
    resume_grace: float = option(2.0, "Time that a call goes on for which its client chose a request_id and then left, so that it may come back. High: slots for clients that do not. Low: those that do begin anew.", high=600.0, reloadable=True)  # fmt: skip
    slow_start: float = option(10.0, "Time in which a replica that joins others comes to its full share. High: it helps late. Low: its cold caches are felt.", low=0.0, high=3600.0)  # fmt: skip
    breaker_window: int = option(10, "Outcomes that a breaker looks at; half of them decide. High: slow to open. Low: two bad ones open it.", low=1, high=1000, unit="outcomes")  # fmt: skip
    breaker_open: float = option(5.0, "Time that a breaker is open at first; doubled by each failed probe, up to twelve times. High: a replica that has recovered idles. Low: calls are tried on a broken one.", low=0.01, high=600.0)  # fmt: skip
    connect_timeout: float = option(5.0, "Time for a replica to accept a connection and say who it is. High: a silent one is noticed late. Low: distant or busy ones never get in.", low=0.01, high=600.0, reloadable=True)  # fmt: skip
    reconnect_initial: float = option(0.1, "First pause before a lost replica is tried again. High: a restarted one waits. Low: connection attempts to the dead.", low=0.001, high=600.0, reloadable=True, flag=None)  # fmt: skip
    reconnect_maximum: float = option(5.0, "Longest such pause. High: one that was gone for long waits. Low: connection attempts to the dead.", low=0.001, high=3600.0, reloadable=True, flag=None)  # fmt: skip
    manager: str = attrs.field(default="", metadata={"help": "What stops and starts replicas in a rollout that does not name a supervisor itself: HOST:PORT, command:STOP ; START, or kubernetes:... None: only rollouts that do.", "unit": "manager"})  # fmt: skip
    state_dir: str = attrs.field(default="", metadata={"help": "Directory for the file by which a rollout is resumed and rolled back; made if it is not there, for this user alone. The same for all gateways of a machine: any of them goes on. None: --resume and --rollback have to be told more.", "unit": "directory"})  # fmt: skip
    draining_recheck: float = option(1.0, "Ask a draining replica again after this long. High: it is used again late. Low: more such questions.", low=0.01, high=600.0, reloadable=True, flag=None)  # fmt: skip
    tls_cert: str | None = attrs.field(default=None, metadata={"help": "File with the certificate chain to show (PEM). None: clients connect without TLS.", "unit": "file"})  # fmt: skip
    tls_key: str | None = attrs.field(default=None, metadata={"help": "File with its key (PEM).", "unit": "file"})
    tls_ca: str | None = attrs.field(default=None, metadata={"help": "File with the authorities whose replicas are believed and, with a certificate, whose clients are let in (PEM). None: no TLS to replicas, any client.", "unit": "file"})  # fmt: skip
    client_certs: str = attrs.field(default="required", validator=_one_of("required", "optional"), metadata={"help": "Whether clients need a certificate where tls_ca is set: all of them, or who has a key may come without.", "unit": "name"})  # fmt: skip
    keys_file: str | None = attrs.field(default=None, metadata={"help": "File with the keys of callers, as `trio-gw keys` makes them. None: calls need no key.", "unit": "file"})  # fmt: skip
    log_level: str = attrs.field(default="info", validator=_one_of(*LEVELS), metadata={"help": "Least important events to log. debug: everything, for finding faults; critical: hardly any.", "unit": "name", "reloadable": True})  # fmt: skip
    log_format: str = attrs.field(default="logfmt", validator=_one_of(*FORMATS), metadata={"help": "How events are written: logfmt, key=value for people, or json, an object a line for machines.", "unit": "name"})  # fmt: skip
    limits: RpcLimits = attrs.field(factory=RpcLimits, metadata={"help": "What one gRPC peer may cost.", "unit": "limits"})  # fmt: skip

    def __attrs_post_init__(self) -> None:
        MembershipConfig.__attrs_post_init__(self)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("GatewayConfig.tls_cert and tls_key: must be given together or not at all")
        if self.client_certs == "optional" and None in {self.tls_cert, self.tls_ca, self.keys_file}:
            raise ConfigError(
                "GatewayConfig.client_certs = 'optional': must be 'required' without tls_cert, tls_ca and keys_file"
            )

    @property
    def attempts(self) -> AttemptLimits:
        """How often a call may fail."""
        return AttemptLimits(
            max_attempts=self.max_attempts,
            max_attempts_total=self.max_attempts_total,
            poison_limit=self.poison_limit,
        )

    @property
    def breaker(self) -> BreakerLimits:
        """When a replica's breaker opens."""
        return BreakerLimits(
            window=self.breaker_window,
            at_least=-(-self.breaker_window // 2),
            open_for=self.breaker_open,
            open_at_most=12 * self.breaker_open,
        )


@attrs.frozen(kw_only=True)
class ReplicaConfig(MembershipConfig):
    """One simulated replica: what it calls itself, where it listens, how fast it is and what it does wrong.

    ``fault`` is text here and is read when the replica is made, which raises ConfigError in the same manner: what
    faults there are is the replica's own knowledge.
    """

    port: int = option(50_051, "Port to listen on; 0 takes a free one.", low=0, high=65_535, unit="port")
    model: str = attrs.field(default="simulated", validator=_name(1), metadata={"help": "Model that it says it serves. Tokens depend on it.", "unit": "name"})  # fmt: skip
    model_version: str = attrs.field(default="v1", validator=_name(1), metadata={"help": "Version of that model. Tokens do not depend on it.", "unit": "name"})  # fmt: skip
    weight: float = option(1.0, "Its share of the calls against other replicas'. High: it gets more than they. Low: less.", low=0.001, high=1000.0, unit="factor")  # fmt: skip
    max_capacity: int = option(4, "Generations at once. High: more load per process. Low: callers are refused as busy.", low=1, high=65_536, unit="generations")  # fmt: skip
    token_delay: float = option(0.1, "Time per token, the first included. High: a slow model. Low: 0 is as fast as the process can send.", high=3600.0, flag="--token-delay-ms", scale=1000.0)  # fmt: skip
    jitter: float = option(0.1, "Share of the time per token by which one may be early or late. High: uneven streams. Low: 0 is a metronome.", high=0.5, unit="share", flag=None)  # fmt: skip
    prefill: float = option(0.0, "Time before the first token's, for every prompt. High: late first tokens. Low: none.", high=3600.0, flag="--prefill-ms", scale=1000.0)  # fmt: skip
    prefill_per_token: float = option(0.0001, "Time to read each token of the prompt that the prefix cache does not know. High: affinity matters more. Low: it is not to be seen.", high=1.0, flag=None)  # fmt: skip
    reject_all: bool = attrs.field(default=False, metadata={"help": "Refuse every call from the start: the fault `reject`.", "unit": "switch"})  # fmt: skip
    error_rate: float = option(0.0, "Share of calls to refuse from the start: the fault `error=RATE`.", high=1.0, unit="share")  # fmt: skip
    fault: str = attrs.field(default="", metadata={"help": "Faults from the start, with commas between them: crash@TOKEN, slow=FACTOR, ...", "unit": "faults"})  # fmt: skip
    seed: int = option(0, "Start of every random sequence: jitter and error rate.", low=0, high=2**64 - 1, unit="any number", flag=None)  # fmt: skip
    drain_timeout: float = option(30.0, "Time for running generations to finish while draining, before they are handed over. High: slow shutdowns. Low: more is generated twice.", high=3600.0)  # fmt: skip
    tls_cert: str | None = attrs.field(default=None, metadata={"help": "File with the certificate chain to show (PEM). None: no TLS.", "unit": "file"})  # fmt: skip
    tls_key: str | None = attrs.field(default=None, metadata={"help": "File with its key (PEM).", "unit": "file"})
    tls_ca: str | None = attrs.field(default=None, metadata={"help": "File with the authorities whose clients are let in (PEM). None: any client.", "unit": "file"})  # fmt: skip
    log_level: str = attrs.field(default="info", validator=_one_of(*LEVELS), metadata={"help": "Least important events to log. debug: everything, for finding faults; critical: hardly any.", "unit": "name", "reloadable": True})  # fmt: skip
    log_format: str = attrs.field(default="logfmt", validator=_one_of(*FORMATS), metadata={"help": "How events are written: logfmt, key=value for people, or json, an object a line for machines.", "unit": "name"})  # fmt: skip
    limits: RpcLimits = attrs.field(factory=RpcLimits, metadata={"help": "What one gRPC peer may cost.", "unit": "limits"})  # fmt: skip

    def __attrs_post_init__(self) -> None:
        MembershipConfig.__attrs_post_init__(self)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("ReplicaConfig.tls_cert and tls_key: must be given together or not at all")
        if self.tls_ca is not None and self.tls_cert is None:
            raise ConfigError(f"ReplicaConfig.tls_ca = {self.tls_ca!r}: is of no use without tls_cert and tls_key")
