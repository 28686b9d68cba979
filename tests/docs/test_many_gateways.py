"""docs/many_gateways.rst: the numbers in it are the code's. Its recipe is run in ``tests/stories``."""

import pytest

from inferencegw.client.moves import TRIES
from inferencegw.config import GatewayConfig
from inferencegw.policy.flight import MAX_KEPT, MAX_UNREAD
from tests.docs.recipe import PAGE, recipe

CHAPTER = " ".join(PAGE.read_text(encoding="utf-8").split())

NUMBERS = {
    f"``resume_grace`` ({GatewayConfig().resume_grace:g} s)": True,
    f"At most {MAX_UNREAD // 1024} KiB are generated ahead of the reader": True,
    f"about {MAX_KEPT // 1024} KiB are kept": True,
    "growing pauses with jitter, ten times in a row": TRIES == 10,
}


@pytest.mark.parametrize(("phrase", "holds"), NUMBERS.items())
def test_a_number_in_the_chapter_is_the_code_s(phrase: str, holds: bool) -> None:
    """Who changes the one is told of the other."""
    assert phrase in CHAPTER
    assert holds


def test_the_recipe_is_a_program() -> None:
    """One function, for whoever copies it."""
    assert callable(recipe()["generate"])
