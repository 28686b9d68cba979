"""What the chapter on security prints: the table of needs that a gateway's guard follows, and the reasons it gives."""

from collections.abc import Iterator
from typing import Final

from inferencegw.gateway.guard import NEEDS, STATUSES, Need

from .tables import table

__all__ = ["needs", "refusals"]

WORDS: Final = {
    Need.NOTHING: "nothing",
    Need.KEY: "a key",
    Need.LOOK: "to look",
    Need.FELLOW: "to be a gateway, or to give orders",
    Need.ORDER: "to give orders",
}


def needs() -> str:
    """Each need, and the methods that have it."""

    def methods(need: Need) -> Iterator[str]:
        for path, one in NEEDS.items():
            if one is need:
                service, method = path.removeprefix("/").split("/")
                yield f"``{service.rpartition('.')[2]}.{method}``"

    return table([("needs", "methods"), *((WORDS[need], ", ".join(dict.fromkeys(methods(need)))) for need in Need)])


def refusals() -> str:
    """Each reason, and the status that comes with it."""
    rows = [(f"``{denial.value}``", f"``{status.name}``") for denial, status in STATUSES.items()]
    return table([("``gw-reason``", "status"), *rows])
