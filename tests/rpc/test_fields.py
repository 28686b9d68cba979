"""Our HPACK encoder against hpack's decoder, and the decoder against blocks nobody honest sends."""

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.rpc.fields import (
    EMPTY_TABLE,
    BlockDecoder,
    MalformedBlockError,
    OversizedBlockError,
    encode_block,
    list_bytes,
    malformed,
)
from inferencegw.rpc.metadata import Fields

field = st.tuples(
    st.one_of(st.binary(min_size=1, max_size=300), st.sampled_from([b":status", b"content-type", b":path"])),
    st.one_of(st.binary(max_size=300), st.sampled_from([b"200", b"/", b""])),
)


@given(st.lists(st.lists(field, max_size=6), min_size=1, max_size=4))
def test_every_block_decodes_to_its_fields_and_leaves_no_table(blocks: list[Fields]) -> None:
    """In any order, for an independent decoder whose table was never touched."""
    decoder = BlockDecoder(2**20)
    for number, fields in enumerate(blocks):
        assert decoder.decode_untrusted((b"" if number else EMPTY_TABLE) + encode_block(fields)) == fields
    assert not decoder._table.dynamic_entries


@given(st.lists(st.lists(st.sampled_from([(b"a", b"1"), (b"b", b"2"), (b"x-long", b"z" * 60)]), max_size=3)), st.data())
def test_a_remembered_block_means_what_it_says_now(blocks: list[Fields], data: st.DataObject) -> None:
    """The same bytes stand for other fields once the dynamic table has changed, by a new entry or a new size."""
    encoder, decoder = Encoder(), BlockDecoder(2**16)
    for fields in blocks:
        if data.draw(st.booleans()):
            encoder.header_table_size = data.draw(st.sampled_from([0, 40, 100, 4096]))
        assert decoder.decode_untrusted(encoder.encode(fields)) == fields


def test_an_emptied_table_is_forgotten_though_its_size_is_the_old_one() -> None:
    """Size updates to 0 and back to 4096 in one block leave no entry to refer to (RFC 7541 section 4.3)."""
    decoder = BlockDecoder(2**16)
    decoder.decode_untrusted(b"\x40\x01a\x01b")
    assert decoder.decode_untrusted(b"\xbe") == [(b"a", b"b")]
    decoder.decode_untrusted(b"\x20\x3f\xe1\x1f\x82")
    with pytest.raises(MalformedBlockError):
        decoder.decode_untrusted(b"\xbe")


def test_static_fields_take_one_byte() -> None:
    """``:status 200`` and its like are indexed (RFC 7541 appendix A)."""
    assert encode_block([(b":status", b"200"), (b":method", b"POST")]) == b"\x88\x83"


@given(st.binary(max_size=200))
def test_garbage_is_malformed_or_oversized_and_nothing_else(block: bytes) -> None:
    """Exactly two documented errors, whatever comes."""
    try:
        fields = BlockDecoder(4096).decode_untrusted(block)
    except (MalformedBlockError, OversizedBlockError):
        return
    assert list_bytes(fields) <= 4096


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=2), st.integers(1, 20_000)), max_size=4))
def test_garbage_that_repeats_itself_is_malformed_or_oversized_too(pieces: list[tuple[bytes, int]]) -> None:
    """An integer as long as a block may be is what hpack 3.0 dies of: of its size, and of saying so."""
    block = b"".join(piece * times for piece, times in pieces)
    try:
        BlockDecoder(4096).decode_untrusted(block)
    except (MalformedBlockError, OversizedBlockError):
        return


@given(st.binary(max_size=40))
def test_what_can_be_read_reads_as_another_decoder_has_it(block: bytes) -> None:
    """Hpack's own, which does no harm at this size; it takes longer integers and nothing else."""
    try:
        expected = [(bytes(name), bytes(value)) for name, value in Decoder().decode(block, raw=True)]
    except (HPACKError, IndexError, TypeError):
        expected = None
    try:
        assert BlockDecoder(65_536).decode_untrusted(block) == expected
    except MalformedBlockError as error:
        assert expected is None or "an integer of more than 6 octets" in str(error)


@pytest.mark.parametrize("head", [b"\xff", b"\x3f", b"\x7f", b"\x0f", b"\x40\x7f", b"\x00\x7f", b"\x82\x00\x01a\x7f"])
@pytest.mark.parametrize("octets", [5, 9_000, 65_000])
def test_an_integer_that_does_not_end_costs_six_octets(head: bytes, octets: int) -> None:
    """Wherever there may be one (RFC 7541 section 6), and however long it is: CVE-2026-59980."""
    with pytest.raises(MalformedBlockError, match=r"^an integer of more than 6 octets$"):
        BlockDecoder(65_536).decode_untrusted(head + b"\xff" * octets + b"\x00")


def test_a_header_bomb_is_oversized() -> None:
    """A few bytes that refer again and again to a large entry (CVE-2016-6581)."""
    encoder = Encoder()
    block = encoder.encode([(b"x", b"y" * 3000)]) + b"\xbe" * 100
    with pytest.raises(OversizedBlockError):
        BlockDecoder(65_536).decode_untrusted(block)


def test_a_small_entry_does_not_keep_a_large_block_alive() -> None:
    """The table holds bytes of its own, where hpack's decoder would put views of the block."""
    decoder = BlockDecoder(65_536)
    decoder.decode_untrusted(b"\x40\x01a\x01b" + b"\x00\x01c\x7f\x81\x0b" + b"z" * 1536)
    ((name, value),) = decoder._table.dynamic_entries
    assert (type(name), type(value)) == (bytes, bytes)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ([(b"ok", b"fine")], False),
        ([(b":path", b"/"), (b"content-length", b"5"), (b"content-length", b"5")], False),
        ([(b"Upper", b"x")], True),
        ([(b"a:b", b"x")], True),
        ([(b"a", b"x\r\ny")], True),
        ([(b"a", b"x\0")], True),
        ([(b"content-length", b"+5")], True),
        ([(b"content-length", b"5"), (b"content-length", b"6")], True),
        ([(b"", b"x")], True),
        ([(b"host", b"a")], False),
        ([(b"host", b"a"), (b"host", b"b")], True),
        ([(b"host", b"a"), (b"host", b"a")], True),
        ([(b":path", b"")], True),
        ([(b":path", b"nowhere")], True),
        ([(b":method", b"")], True),
        ([(b":protocol", b"websocket")], True),
        ([(b":status", b"204")], False),
        *[([(b":status", status)], True) for status in (b"", b"abc", b"0x1", b"+200", b"99", b"600", b"2000")],
    ],
)
def test_fields_are_judged_as_the_rfc_says(fields: Fields, wrong: bool) -> None:
    """RFC 9113 sections 8.1.1, 8.2.1 and 8.3.1, where h2 3.2 is silent."""
    assert (malformed(fields) is not None) == wrong
