"""swim/keyring.py: the first key seals, all of them open, and a ring that cannot be used cannot be had."""

import base64

import pytest

from inferencegw.errors import ConfigError
from inferencegw.swim.keyring import KEY_BYTES, MAX_KEYS, Keyring

A, B, C = (letter * KEY_BYTES for letter in (b"a", b"b", b"c"))
NONCE = bytes(12)


def opens(ring: Keyring, key: bytes) -> bool:
    """Whether what is sealed with ``key`` can be opened by ``ring``."""
    return ring.open_untrusted(NONCE, Keyring([key]).seal(NONCE, b"body", b"label"), b"label") == b"body"


def test_the_first_key_seals_and_all_open() -> None:
    """A ring reads what members that are a step ahead or behind send."""
    ring = Keyring([A, B])
    assert [opens(ring, key) for key in (A, B, C)] == [True, True, False]
    assert ring.seal(NONCE, b"x", b"") == Keyring([A]).seal(NONCE, b"x", b"")


def test_a_rotation_is_add_use_remove() -> None:
    """After each step the ring is what it should be."""
    ring, seen = Keyring([A]), []
    for step, key in ((ring.add, B), (ring.use, B), (ring.remove, A)):
        step(key)
        seen.append(ring.keys)
    assert seen == [(A, B), (B, A), (B,)]


def test_what_was_sealed_for_another_label_is_not_opened() -> None:
    """The label is under the seal."""
    assert Keyring([A]).open_untrusted(NONCE, Keyring([A]).seal(NONCE, b"body", b"one"), b"other") is None


def test_a_file_has_a_key_to_a_line() -> None:
    """In base64, with comments and empty lines."""
    text = f"# ours\n{base64.b64encode(A).decode()}  # since May\n\n{base64.b64encode(B).decode()}\n"
    assert Keyring.parse(text).keys == (A, B)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 keys"),
        ("# nothing\n", "has 0 keys"),
        ("not base64!\n", "not base64"),
        ("YWJj\n", "a key has 3 bytes: must have 32"),
        ("\n".join(base64.b64encode(bytes([n]) * 32).decode() for n in range(MAX_KEYS + 1)), "has 9 keys"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text: str, message: str) -> None:
    """The message says what is wrong, and never a key."""
    with pytest.raises(ConfigError, match=message):
        Keyring.parse(text)


def test_a_step_that_cannot_be_done_changes_nothing() -> None:
    """The last key stays, and only keys of the ring can be used."""
    ring = Keyring([A])
    for step, key in ((ring.remove, A), (ring.use, B), (ring.remove, B), (ring.add, b"short")):
        with pytest.raises(ConfigError):
            step(key)
        assert ring.keys == (A,)
