"""docs/quickstart.rst: what can be told of its commands without running them; ``tests/longrun`` runs them."""

import re

from tests.docs.quickstart import BLOCKS, PAGE, PORTS


def test_the_page_says_which_ports_it_takes() -> None:
    """All that its commands name, and no others."""
    named = {port for block in BLOCKS for port in re.findall(r"(?:127\.0\.0\.1:|-port )(\d+)", block.commands)}
    assert named == set(PORTS)
    assert f"ports {', '.join(PORTS[:-1])} and {PORTS[-1]}" in " ".join(PAGE.read_text(encoding="utf-8").split())


def test_the_page_has_something_of_everything() -> None:
    """Secrets, a cluster, calls, one that is refused, metrics and a rollout."""
    assert [block.kind for block in BLOCKS] == ["install", "", "background", "", "fails", "", ""]
    text = "".join(block.commands for block in BLOCKS)
    wanted = ("--tls-cert", "--keys-file", "--keyring-file", "--replicas 3", "--gateways 2", "/metrics", "rollout")
    assert [word for word in wanted if word not in text] == []
