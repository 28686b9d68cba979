"""rpc/credentials.py: how a key is shown, and what is taken for one."""

import pytest

from inferencegw.errors import ConfigError, Metadata
from inferencegw.rpc.credentials import bearer, shown_key


def test_what_one_end_shows_the_other_one_sees() -> None:
    """And who has no key shows nothing."""
    assert shown_key(bearer("gwk_abc")) == "gwk_abc"
    assert (bearer(""), shown_key(())) == ((), None)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((("authorization", "bearer abc"),), "abc"),
        ((("authorization", "BEARER   abc "),), "abc"),
        ((("x", "y"), ("authorization", "Bearer a"), ("authorization", "Bearer b")), "a"),
        ((("authorization", "Basic YTpi"),), ""),
        ((("authorization", "abc"),), ""),
        ((("authorization", ""),), ""),
        ((("authorization-bin", b"Bearer a"),), None),
    ],
)
def test_the_scheme_is_any_letters_case_and_another_scheme_is_no_key(metadata: Metadata, expected: str | None) -> None:
    """RFC 9110 section 11.1. Of two the first counts: nobody can add one behind it."""
    assert shown_key(metadata) == expected


@pytest.mark.parametrize("key", ["gwk abc", "gwk\nabc", "gwk\N{SNOWMAN}", " "])
def test_what_cannot_be_a_key_is_refused_and_not_told(key: str) -> None:
    """A ConfigError, without the text: it may be a secret with a slip in it."""
    with pytest.raises(ConfigError, match="must be what `trio-gw keys` has made") as caught:
        bearer(key)
    assert key.strip() == "" or key not in str(caught.value)
