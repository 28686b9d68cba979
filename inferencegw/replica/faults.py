"""What a simulated replica does wrong, when it is told to: the FaultPlan.

The rule: a plan is a value. What happens to a call or a token is a function of the plan, the token's index in the whole
generation and the number of the call; so a failing test is replayed by its plan, and a generation that is continued
past a faulty token elsewhere is not hit again. Performing a fault (dying, closing a socket) is the shell's.

:data:`RULES` is the whole of it: one row for each kind gives its spelling on the command line, its field in the proto
and what values it takes. Delayed or lost gossip is in the proto and not here: this replica does not gossip.
"""

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import attrs

from inferencegw.errors import ConfigError
from inferencegw.replica.tokens import stable_fraction
from inferencegw.v1 import replica_pb2

__all__ = ["RULES", "TOKEN_KINDS", "Fault", "FaultKind", "FaultPlan"]


class FaultKind(enum.Enum):
    """One way to misbehave; the value is its name on the command line."""

    REJECT = "reject"
    ERROR = "error"
    SLOW = "slow"
    CRASH = "crash"
    CLOSE = "close"
    TRUNCATE = "truncate"
    FREEZE = "freeze"
    REPEAT = "repeat"
    SKIP = "skip"


TOKEN_KINDS: Final = (
    FaultKind.CRASH,
    FaultKind.CLOSE,
    FaultKind.TRUNCATE,
    FaultKind.FREEZE,
    FaultKind.REPEAT,
    FaultKind.SKIP,
)
"""Those that happen at a token. Where several are due at the same one, the first of these does."""


@attrs.frozen
class Rule:
    """How one kind of fault is written, and which values it takes."""

    field: str
    """In ``FaultSpec``."""
    sign: str
    """Between the name and the value on the command line; "" where there is no value."""
    value: str
    """What stands for the value in messages and help."""
    allowed: str
    accepts: Callable[[float], bool]

    def spelling(self, kind: FaultKind) -> str:
        """How it is written on the command line."""
        return f"{kind.value}{self.sign}{self.value}"


def _at_token(field: str) -> Rule:
    return Rule(field, "@", "TOKEN", "a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32)


RULES: Final[Mapping[FaultKind, Rule]] = MappingProxyType(
    {
        FaultKind.REJECT: Rule("reject_all", "", "", "true", lambda value: value == 1),
        FaultKind.ERROR: Rule("error_rate", "=", "RATE", "above 0 and at most 1", lambda value: 0 < value <= 1),
        FaultKind.SLOW: Rule("slow_factor", "=", "FACTOR", "above 0 and at most 1000", lambda value: 0 < value <= 1000),
        FaultKind.CRASH: _at_token("crash_at_token"),
        FaultKind.CLOSE: _at_token("close_connection_at_token"),
        FaultKind.TRUNCATE: _at_token("truncate_at_token"),
        FaultKind.FREEZE: _at_token("freeze_at_token"),
        FaultKind.REPEAT: _at_token("repeat_token"),
        FaultKind.SKIP: _at_token("skip_token"),
    }
)
_KIND_OF_FIELD: Final = {rule.field: kind for kind, rule in RULES.items()}


@attrs.frozen
class Fault:
    """One fault: its kind, and the rate, factor or index of the token that goes with it (1 where nothing does)."""

    kind: FaultKind
    value: float = 1

    def __attrs_post_init__(self) -> None:
        rule = RULES[self.kind]
        if not rule.accepts(self.value):
            raise ConfigError(f"fault {rule.field} = {self.value!r}: must be {rule.allowed}")

    def __str__(self) -> str:
        rule = RULES[self.kind]
        return f"{self.kind.value}{rule.sign}{self.value}" if rule.sign else self.kind.value

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """The fault that ``text`` spells, such as ``crash@10``; ConfigError naming it and what is allowed."""
        for kind, rule in RULES.items():
            if text == kind.value and not rule.sign:
                return cls(kind)
            name, sign, value = text.partition(rule.sign or "=")
            if name == kind.value and sign == rule.sign:
                return cls(kind, _number(text, value, kind, rule))
        raise ConfigError(f"fault {text!r}: must be one of {', '.join(r.spelling(k) for k, r in RULES.items())}")

    @classmethod
    def from_proto(cls, spec: replica_pb2.FaultSpec) -> "Fault":
        """The fault in ``spec``; ConfigError naming the field and what is allowed."""
        field = spec.WhichOneof("fault")
        if field not in _KIND_OF_FIELD:
            raise ConfigError(f"fault is {field or 'not given'}: must be one of {', '.join(_KIND_OF_FIELD)}")
        return cls(_KIND_OF_FIELD[field], getattr(spec, field))

    def to_proto(self) -> replica_pb2.FaultSpec:
        """The ``FaultSpec`` that says the same."""
        spec = replica_pb2.FaultSpec()
        setattr(spec, RULES[self.kind].field, self.value if RULES[self.kind].sign else True)
        return spec


def _number(text: str, value: str, kind: FaultKind, rule: Rule) -> float:
    try:
        return int(value) if rule.sign == "@" else float(value)
    except ValueError:
        raise ConfigError(f"fault {text!r}: must be {rule.spelling(kind)}, with {rule.value} {rule.allowed}") from None


@attrs.frozen
class FaultPlan:
    """Everything a replica has been told to do wrong: at most one fault of each kind, in the order they were added."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0
    """Start of the sequence that the error rate draws from."""

    @classmethod
    def parse(cls, text: str, *, seed: int = 0) -> "FaultPlan":
        """The plan that ``text`` spells: faults with commas between them, such as ``slow=3,crash@10``; "" is none.

        Raises:
            ConfigError: a part is no fault, or one kind is there twice; names the part and what is allowed.
        """
        plan = cls(seed=seed)
        for part in text.split(",") if text.strip() else ():
            fault = Fault.parse(part.strip())
            if plan.value(fault.kind) is not None:
                raise ConfigError(f"fault {part.strip()!r}: {fault.kind.value} must not be given twice")
            plan = plan.with_fault(fault)
        return plan

    def with_fault(self, fault: Fault) -> "FaultPlan":
        """This plan and ``fault``, instead of the one of its kind."""
        return attrs.evolve(self, faults=(*(other for other in self.faults if other.kind != fault.kind), fault))

    def value(self, kind: FaultKind) -> float | None:
        """What goes with the fault of ``kind``, or None where the plan has none."""
        return next((fault.value for fault in self.faults if fault.kind == kind), None)

    @property
    def slow_factor(self) -> float:
        """What every time is multiplied by."""
        return self.value(FaultKind.SLOW) or 1.0

    def rejects(self, number: int) -> bool:
        """Whether the new call that is the ``number``-th since the sequence was started is refused."""
        rate = self.value(FaultKind.ERROR) or 0.0
        return self.value(FaultKind.REJECT) is not None or stable_fraction(self.seed, number) < rate

    def at_token(self, index: int) -> FaultKind | None:
        """What happens when token ``index`` is due, if anything."""
        return next((kind for kind in TOKEN_KINDS if self.value(kind) == index), None) if self.faults else None

    def to_proto(self) -> replica_pb2.FaultPlan:
        """The proto's FaultPlan that says the same."""
        return replica_pb2.FaultPlan(seed=self.seed, faults=[fault.to_proto() for fault in self.faults])

    def __str__(self) -> str:
        return ",".join(map(str, self.faults))
