"""The prefix cache: what need not be read again, and what is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.replica.prefill import BLOCK_TOKENS, PrefixCache, block_keys

BLOCK_BYTES = 64


def text(*blocks: str) -> bytes:
    """A text of whole blocks, each of one letter."""
    return "".join(block * BLOCK_BYTES for block in blocks).encode()


def test_only_whole_blocks_have_keys() -> None:
    """A block is 16 tokens, 64 bytes; what is left over at the end has none."""
    assert [len(block_keys(b"x" * size)) for size in (0, 63, 64, 127, 128)] == [0, 0, 1, 1, 2]


def test_a_key_stands_for_everything_before_it() -> None:
    """Equal blocks behind different beginnings are different."""
    assert block_keys(text("a", "c"))[1] != block_keys(text("b", "c"))[1]
    assert block_keys(text("a", "b", "c"))[:2] == block_keys(text("a", "b", "d"))[:2]


def test_keys_are_made_for_the_first_64_kibibytes_only() -> None:
    """A prompt of a mebibyte costs no more than one of 64 KiB."""
    assert len(block_keys(bytes(2**20))) == 1024


def test_what_two_texts_begin_with_is_read_once() -> None:
    """The common blocks count as cached, the others not."""
    cache = PrefixCache()
    cache.insert(block_keys(text("a", "b", "c")))
    assert cache.cached_tokens(block_keys(text("a", "b", "x"))) == 2 * BLOCK_TOKENS
    assert cache.cached_tokens(block_keys(text("x", "b", "c"))) == 0


def test_asking_is_not_reading() -> None:
    """A text that was only looked up is not remembered."""
    cache = PrefixCache()
    assert [cache.cached_tokens(block_keys(text("a"))) for _ in range(2)] == [0, 0]


def test_the_beginning_of_a_text_is_forgotten_last() -> None:
    """Room for two blocks of three: the first two stay, since the third is of no use without them."""
    cache = PrefixCache(capacity_blocks=2)
    cache.insert(block_keys(text("a", "b", "c")))
    assert cache.cached_tokens(block_keys(text("a", "b", "c"))) == 2 * BLOCK_TOKENS


def test_what_was_used_lately_stays() -> None:
    """Being asked for is being used."""
    cache = PrefixCache(capacity_blocks=2)
    a, b, c = (block_keys(text(letter)) for letter in "abc")
    cache.insert(a)
    cache.insert(b)
    cache.cached_tokens(a)
    cache.insert(c)
    assert [cache.cached_tokens(keys) for keys in (a, b, c)] == [BLOCK_TOKENS, 0, BLOCK_TOKENS]


@given(st.lists(st.text("ab", max_size=5)), st.integers(0, 6))
def test_the_cache_never_holds_more_than_its_limit(prompts: list[str], capacity: int) -> None:
    """Whatever is put in."""
    cache = PrefixCache(capacity)
    for prompt in prompts:
        cache.insert(block_keys(text(*prompt)))
        assert len(cache) <= capacity
