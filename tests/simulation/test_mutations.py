"""The mutation session: what counts as found."""

import pytest

from .mutations import hunt
from .plants import Plant

PLANT = Plant(lambda patch: None, ("HonestEnds", "CallsGoOn"))


@pytest.mark.parametrize(
    ("error", "found", "told"),
    [
        ("CheckFailed: CallsGoOn: at 2.0 s: stuck", True, "found by seed 3 of 5: CheckFailed: CallsGoOn: at"),
        ("CheckFailed: QuietEnd: at 2.0 s: left", False, "BROKEN PLANT, not found by HonestEnds or CallsGoOn: by seed"),
        ("AttributeError: no such thing", False, "BROKEN PLANT, not found by HonestEnds or CallsGoOn: by seed 3 of 5"),
        ("", False, "NOT FOUND"),
    ],
)
def test_a_plant_is_found_by_its_own_checkers_only(error: str, found: bool, told: str) -> None:
    """One that breaks the program proves nothing of the checkers."""
    result, said = hunt(PLANT, 5, lambda seed: error if seed == 2 else "")
    assert result is found
    assert said.startswith(told)
