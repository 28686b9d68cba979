"""swim/envelope.py: each refusal has its own name, and the cheap questions come first."""

import zlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.errors import ConfigError
from inferencegw.swim.effects import DropReason
from inferencegw.swim.envelope import MAX_DATAGRAM_BYTES, Envelope
from inferencegw.swim.keyring import Keyring
from inferencegw.swim.messages import BadPacket

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
CLEAR = Envelope("blue", None, None)
SEALED = Envelope("blue", Keyring([KEY]), lambda: b"n" * 12)
BODY = b"what is said"


def refusal(envelope: Envelope, data: bytes) -> DropReason:
    """Why ``data`` is not heard."""
    opened = envelope.unwrap_untrusted(data)
    assert isinstance(opened, BadPacket)
    return opened.reason


@given(st.binary(max_size=200), st.text(max_size=16).filter(lambda text: len(text.encode()) <= 64))
@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_wrapped_is_unwrapped_and_as_long_as_it_says(key: bytes | None, body: bytes, label: str) -> None:
    """In clear and sealed."""
    envelope = Envelope(label, Keyring([key]) if key else None, lambda: bytes(12))
    data = envelope.wrap(body)
    assert envelope.unwrap_untrusted(data) == body
    assert len(data) == len(body) + envelope.overhead


def test_the_envelope_is_the_documented_bytes() -> None:
    """Other implementations read them: what is checked and what is under the seal begins with the first byte."""
    body, nonce = BODY, b"n" * 12
    assert CLEAR.wrap(body) == b"GW\x01\x00\x04blue" + zlib.crc32(b"GW\x01\x00\x04blue" + body).to_bytes(4) + body
    prefix = b"GW\x01\x01\x04blue"
    assert SEALED.wrap(body) == prefix + nonce + AESGCM(KEY).encrypt(nonce, body, prefix)


def test_every_sealed_packet_has_the_next_nonce() -> None:
    """One that came twice under a key would give its packets away."""
    nonces = iter([b"1" * 12, b"2" * 12])
    envelope = Envelope("", Keyring([KEY]), lambda: next(nonces))
    assert [envelope.wrap(BODY)[5:17] for _ in range(2)] == [b"1" * 12, b"2" * 12]


def test_a_sealed_packet_does_not_change_clusters() -> None:
    """Somebody writes another label on it; the key may be the same in both clusters, the seal is not."""
    green = Envelope("green", Keyring([KEY]), lambda: b"n" * 12)
    relabelled = b"GW\x01\x01\x05green" + SEALED.wrap(BODY)[9:]
    assert refusal(green, relabelled) is DropReason.KEY


@pytest.mark.parametrize(
    ("envelope", "data", "reason"),
    [
        (CLEAR, b"", DropReason.TRUNCATED),
        (CLEAR, b"GW\x01\x00", DropReason.TRUNCATED),
        (CLEAR, CLEAR.wrap(BODY)[: CLEAR.overhead - 1], DropReason.TRUNCATED),
        (SEALED, SEALED.wrap(BODY)[: SEALED.overhead - 1], DropReason.TRUNCATED),
        (CLEAR, b"HTTP/1.1 200 OK", DropReason.FOREIGN),
        (CLEAR, b"GW\x02" + CLEAR.wrap(BODY)[3:], DropReason.FOREIGN),
        (CLEAR, b"GW\x01\x02" + CLEAR.wrap(BODY)[4:], DropReason.FOREIGN),
        (CLEAR, Envelope("green", None, None).wrap(BODY), DropReason.LABEL),
        (CLEAR, Envelope("", None, None).wrap(BODY), DropReason.LABEL),
        (CLEAR, Envelope("blues", None, None).wrap(BODY), DropReason.LABEL),
        (SEALED, Envelope("green", Keyring([KEY]), lambda: bytes(12)).wrap(BODY), DropReason.LABEL),
        (CLEAR, CLEAR.wrap(BODY)[:-1] + b"!", DropReason.CHECKSUM),
        (CLEAR, CLEAR.wrap(BODY)[:-1], DropReason.CHECKSUM),
        (CLEAR, SEALED.wrap(BODY), DropReason.SEALED),
        (SEALED, CLEAR.wrap(BODY), DropReason.UNSEALED),
        (SEALED, Envelope("blue", Keyring([OTHER_KEY]), lambda: bytes(12)).wrap(BODY), DropReason.KEY),
        (SEALED, SEALED.wrap(BODY)[:-1] + b"!", DropReason.KEY),
        (CLEAR, CLEAR.wrap(bytes(MAX_DATAGRAM_BYTES)), DropReason.OVERSIZED),
    ],
    ids=lambda value: value.value if isinstance(value, DropReason) else "",
)
def test_each_refusal_has_its_own_name(envelope: Envelope, data: bytes, reason: DropReason) -> None:
    """An operator who reads the counters knows what to look for."""
    assert refusal(envelope, data) is reason


@given(st.data())
@pytest.mark.parametrize("envelope", [CLEAR, SEALED], ids=["clear", "sealed"])
def test_no_changed_bit_gets_through(envelope: Envelope, data: st.DataObject) -> None:
    """CRC-32 finds every single one, and a seal any change at all."""
    wrapped = bytearray(envelope.wrap(BODY))
    bit = data.draw(st.integers(0, 8 * len(wrapped) - 1))
    wrapped[bit // 8] ^= 1 << bit % 8
    assert isinstance(envelope.unwrap_untrusted(bytes(wrapped)), BadPacket)


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    """Random bytes are not a packet of ours."""
    assert isinstance(CLEAR.unwrap_untrusted(data), BadPacket)
    assert isinstance(SEALED.unwrap_untrusted(data), BadPacket)


def test_a_label_that_is_too_long_and_a_keyring_without_nonces_are_refused() -> None:
    """The one is an operator's fault, the other a programmer's."""
    with pytest.raises(ConfigError, match="at most 64 bytes"):
        Envelope("x" * 65, None, None)
    with pytest.raises(TypeError, match="needs a nonce"):
        Envelope("", Keyring([KEY]), None)
