"""Metadata, timeouts and messages survive the wire; what cannot be sent is refused before it gets there."""

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.errors import Metadata
from inferencegw.rpc.metadata import (
    decode_metadata,
    decode_text,
    decode_timeout,
    encode_metadata,
    encode_text,
    encode_timeout,
)

names = st.text(string.ascii_lowercase + string.digits + "_-.", min_size=1, max_size=20).filter(
    lambda name: not name.startswith("grpc-") and name not in ("te", "content-type", "user-agent", "content-length")
)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=50).map(
    lambda text: text.strip(" ")
)
pairs = st.one_of(
    st.tuples(names.filter(lambda name: not name.endswith("-bin")), printable),
    st.tuples(names.map(lambda name: name + "-bin"), st.binary(max_size=50)),
)


@given(st.lists(pairs, max_size=8).map(tuple))
def test_metadata_comes_back_as_it_went(metadata: Metadata) -> None:
    """Names, values, order and repetitions; binary values by base64 without padding."""
    assert decode_metadata(encode_metadata(metadata)) == metadata


@pytest.mark.parametrize(
    "pair",
    [
        ("Upper", "x"),
        ("", "x"),
        ("a b", "x"),
        (":path", "/"),
        ("grpc-status", "0"),
        ("content-type", "text/plain"),
        ("x", "line\nbreak"),
        ("x", "näh"),
        ("x", b"bytes"),
        ("x-bin", "text"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(pair: tuple[str, str | bytes]) -> None:
    """A bug of ours must not become a header injection."""
    with pytest.raises(ValueError, match=repr(pair[0])):
        encode_metadata([pair])


def test_what_is_not_base64_is_left_out() -> None:
    """The call goes on: nothing can be made of the value, and its sender's other values are as good as ever."""
    assert decode_metadata([(b"a-bin", b"!!!"), (b"b-bin", b"aGk,aG8")]) == (("b-bin", b"hi"), ("b-bin", b"ho"))


@given(st.floats(1e-8, 3e11))
def test_a_timeout_is_rounded_down_by_less_than_a_millionth(seconds: float) -> None:
    """The server must not think it has longer than the client will wait."""
    back = decode_timeout(encode_timeout(seconds))
    assert back <= seconds * (1 + 1e-12)
    assert back >= seconds * (1 - 1e-5) - 1e-9 or seconds > 99_999_999 * 60


@pytest.mark.parametrize(
    ("wire", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 4e-3), (b"5u", 5e-6), (b"99999999n", 0.099999999)],
)
def test_each_unit_is_read(wire: bytes, seconds: float) -> None:
    """GRPC over HTTP/2, TimeoutUnit."""
    assert math.isclose(decode_timeout(wire), seconds)


@pytest.mark.parametrize("wire", [b"", b"1", b"S", b"123456789S", b"-1S", b"1.5S", b"1 S", b"1s"])
def test_a_malformed_timeout_is_an_error(wire: bytes) -> None:
    """At most eight digits and one unit."""
    with pytest.raises(ValueError, match="malformed grpc-timeout"):
        decode_timeout(wire)


def test_a_deadline_that_has_passed_is_sent_as_the_shortest_timeout() -> None:
    """Zero or less is not a timeout that could be written; the server is to give up at once all the same."""
    assert encode_timeout(-1.0) == b"1n"


@given(st.text())
def test_a_status_message_comes_back_as_it_went(text: str) -> None:
    """Percent-encoded UTF-8, printable ASCII on the wire."""
    wire = encode_text(text)
    assert all(0x20 <= byte <= 0x7E for byte in wire)
    assert decode_text(wire) == text


def test_invalid_percent_encoding_is_kept() -> None:
    """The spec asks not to drop a message for that."""
    assert decode_text(b"100% of %zz and %C3%A4") == "100% of %zz and ä"
