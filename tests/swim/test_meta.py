"""swim/meta.py: content has one form, whoever writes it, and a digest that says which it is."""

from typing import Any

import attrs
import pytest
from hypothesis import given

from inferencegw.swim.meta import Meta, address_text

from .strategies import metas


@given(metas)
def test_the_digest_is_of_the_content_and_not_of_the_version(meta: Meta) -> None:
    """The same content said again later has the same digest, and sorts later."""
    again = attrs.evolve(meta, epoch=meta.epoch + 1)
    assert again.digest == meta.digest
    assert again.key > meta.key


@pytest.mark.parametrize(
    "change",
    [
        {"role": 2},
        {"address": ("h", 2)},
        {"grpc_address": "h:3"},
        {"model": "m"},
        {"model_version": "v"},
        {"weight": 2.0},
        {"max_capacity": 1},
        {"cordoned": True},
        {"draining": True},
        {"later": b"\x60\x01"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_of_the_content_is_in_the_digest(change: dict[str, Any]) -> None:
    """A field that is left out would let two contents pass for one."""
    plain = Meta(address=("h", 1))
    changed = attrs.evolve(plain, **change)
    assert changed.digest != plain.digest
    assert changed.content != plain.content


def test_a_weight_is_what_the_wire_can_carry() -> None:
    """0.1 is not a single-precision number: what is kept is the one that comes back from the wire."""
    assert Meta(weight=0.1).weight == 0.100000001490116119384765625
    assert Meta(weight=Meta(weight=0.1).weight) == Meta(weight=0.1)


def test_an_address_is_written_so_that_it_can_be_read_back() -> None:
    """IPv6 hosts stand in brackets."""
    assert [address_text(("h", 1)), address_text(("::1", 2))] == ["h:1", "[::1]:2"]
