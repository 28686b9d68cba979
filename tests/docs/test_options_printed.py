"""docs/printed/options.py: the chapter on configuration has every option, with all that there is to know of it."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.errors import ConfigError
from inferencegw.settings.options import options_of
from inferencegw.settings.sources import Sources
from inferencegw.settings.toml import literal
from tests.docs.test_printed import DOCS


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, as Sphinx finds it."""
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    return import_module("printed.options")


@pytest.mark.parametrize(("function", "config"), [("gateway", GatewayConfig), ("replica", ReplicaConfig)])
def test_every_option_is_printed_with_all_that_there_is_to_know_of_it(
    function: str, config: type[attrs.AttrsInstance], options: ModuleType
) -> None:
    """In the order of the class: cost, default, unit, range, variable, flag, and whether a reload changes it."""
    printed = getattr(options, function)()
    entries = dict(entry.split("\n", 1) for entry in printed.split("\n\n``"))
    assert [key.strip("`") for key in entries] == list(options_of(config))
    for (key, entry), option in zip(entries.items(), options_of(config).values(), strict=True):
        assert key.strip("`") == option.key
        assert option.help.replace("`", "``").replace("*", "\\*") in entry
        assert option.unit in entry
        assert f"Variable ``{option.variable}``" in entry
        assert "Default none" in entry if option.default is None else f"Default ``{literal(option.default)}``" in entry
        assert (f"flag ``{option.flag}``" if option.flag else "flag none") in entry
        assert ("reloaded by SIGHUP" if option.reloadable else "needs a restart") in entry
        for bound in ("low", "high"):
            value = option.attribute.metadata.get(bound)
            assert value in {None, float("inf")} or f"{value:.12g}" in entry


def test_the_chapter_has_both_lists() -> None:
    """Whatever is printed is there."""
    chapter = (DOCS / "configuration.rst").read_text(encoding="utf-8")
    assert ".. printed:: options.gateway" in chapter
    assert ".. printed:: options.replica" in chapter


def test_what_the_chapter_says_of_a_bad_value_is_what_is_said() -> None:
    """Its one example of an error."""
    with pytest.raises(ConfigError) as caught:
        Sources(GatewayConfig, Path("gateway.toml")).combine({"queue_size": -1})
    assert f"trio-gw: error: {caught.value}" in (DOCS / "configuration.rst").read_text(encoding="utf-8")
