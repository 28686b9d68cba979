"""The bench of a pick works; what it finds is for a quiet machine."""

import argparse

import pytest

from . import pick


def test_every_kind_of_fleet_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each, with a column for each size."""
    parser = argparse.ArgumentParser()
    pick.add_arguments(parser)
    assert pick.run(parser.parse_args(["--rounds", "1", "--sizes", "3", "30"])) in {0, 1}
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["fleet", "3", "30", "ratio"]
    assert [row.split("  ")[0] for row in rows] == ["idle", "half full", "97 % full", "99 % full"]
