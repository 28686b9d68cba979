"""policy/keys.py: what a file of keys says, what it cannot say, and who is found by what they show."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.errors import ConfigError
from inferencegw.policy.keys import KEY_BYTES, ApiKey, KeyTable, Role, hash_of, key_text

ALICE, BOB = (key_text(bytes([number]) * KEY_BYTES) for number in (1, 2))
HASH = hash_of(ALICE).hex()


def test_a_file_says_of_each_name_who_it_is_and_what_it_may_cost() -> None:
    """Without limits there are none, and a role that is not given is the smaller one."""
    table = KeyTable.parse(
        f"""
        [keys.alice]
        sha256 = "{HASH}"
        [keys."team.b"]
        sha256 = ["{hash_of(BOB).hex()}", "{"0" * 64}"]
        role = "admin"
        max_concurrent = 2
        rate = 0.5
        """
    )
    alice, team = table.keys.values()
    assert alice == ApiKey("alice", (hash_of(ALICE),), Role.CLIENT, math.inf, math.inf, 1.0)
    assert team == ApiKey("team.b", (hash_of(BOB), bytes(32)), Role.ADMIN, 2, 0.5, 1.0)
    assert table.has_admin


def test_whoever_shows_a_key_is_found_by_it_and_nobody_by_anything_else() -> None:
    """Neither by its hash, nor by a part of it, nor with something around it."""
    table = KeyTable([ApiKey("alice", (hash_of(ALICE),)), ApiKey("bob", (hash_of(BOB),), Role.ADMIN)])
    assert table.find_untrusted(ALICE) == (table.keys["alice"], hash_of(ALICE))
    assert table.find_untrusted(BOB) == (table.keys["bob"], hash_of(BOB))
    third = key_text(bytes(KEY_BYTES))
    for shown in (third, HASH, ALICE[:-1], ALICE + "A", f" {ALICE}", ALICE.lower(), "", "gwk_", "\N{SNOWMAN}"):
        assert table.find_untrusted(shown) is None


def test_a_password_opens_nothing_even_where_its_hash_is_in_the_file() -> None:
    """A fast hash is right for keys that nobody has chosen, and for those only."""
    table = KeyTable([ApiKey("eve", (hash_of("password"),))])
    assert table.find_untrusted("password") is None


@given(shown=st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_whatever_is_shown_that_is_no_key_is_nobodys(shown: str) -> None:
    """And nothing is raised."""
    assert KeyTable([ApiKey("alice", (hash_of(ALICE),))]).find_untrusted(shown) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no keys: nobody could call"),
        ("keys = 3", "keys: must be"),
        ("[keys]\nalice = 3", r"keys.alice = 3: must be a table: \[keys.alice\]"),
        ("[keys", "is not TOML"),
        ("keys = " + "[" * 100_000, "is not TOML"),
        ("keys = " + "1" * 5000, "is not TOML"),
        ("other = 1", r"other: must be \[keys.NAME\] and nothing else"),
        ("[keys.'a b']", "keys.'a b': a name must be 1 to 64 letters"),
        ("[keys.a]", "keys.a.sha256: must be 64 digits"),
        (f"[keys.a]\nsha256 = '{ALICE}'", "keys.a.sha256: must be 64 digits"),
        ("[keys.a]\nsha256 = []", "or a list of 1 to 4 such"),
        (f"[keys.a]\nsha256 = '{HASH}'\nrole = 'root'", "keys.a.role = 'root': must be one of client, admin"),
        (f"[keys.a]\nsha256 = '{HASH}'\nrole = []", r"keys.a.role = \[\]: must be one of client, admin"),
        (f"[keys.a]\nsha256 = '{HASH}'\nrate = 0", "keys.a.rate = 0: must be a number from 0.001 to 1e"),
        (f"[keys.a]\nsha256 = '{HASH}'\nrate = nan", "keys.a.rate = nan: must be a number"),
        (f"[keys.a]\nsha256 = '{HASH}'\nrate = true", "keys.a.rate = True: must be a number"),
        (f"[keys.a]\nsha256 = '{HASH}'\nburst = 5", "keys.a.burst = 5: is of no use without a rate"),
        (f"[keys.a]\nsha256 = '{HASH}'\nmax_concurrent = 0", "max_concurrent = 0: must be a whole number from 1"),
        (f"[keys.a]\nsha256 = '{HASH}'\nmax_concurrent = 1.5", "max_concurrent = 1.5: must be a whole number"),
        (f"[keys.a]\nsha256 = '{HASH}'\nquota = 5", "keys.a.quota: is not known: must be sha256, role"),
        (f"[keys.a]\nsha256 = '{HASH}'\n[keys.b]\nsha256 = '{HASH}'", "keys.b.sha256: is that of a, too"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_is_allowed(text: str, message: str) -> None:
    """ConfigError, in one line, and never with what may be a secret."""
    with pytest.raises(ConfigError, match=message) as caught:
        KeyTable.parse(text)
    assert ALICE not in str(caught.value)
