"""What every measurement of a goal of membership ends as: a row of the table."""

import attrs

from .memberlist_figures import Figure

__all__ = ["Result"]


@attrs.frozen
class Result:
    """One promise.

    Attributes:
        what: is measured.
        promised: by the design.
        ours: what was reached.
        passed: whether that is what was promised.
        basis: seeds and rounds that were played.
        memberlist: its figure that stands beside ours, where there is one.
    """

    what: str
    promised: str
    ours: str
    passed: bool
    basis: str
    memberlist: Figure | None = None
