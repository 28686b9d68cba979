"""Sphinx: built with ``-n -W``, so that a name of ours that leads nowhere fails the build."""

import importlib
import pathlib
import sys

from docutils.nodes import Element, Node, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from inferencegw import __version__

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the package ``printed``

project = "inferencegw"
author = "the inferencegw authors"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx reads it under this name
release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib_trio"]
exclude_patterns = ["_build", "newsfragments"]
html_theme = "furo"
html_title = f"inferencegw {release}"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100

nitpick_ignore_regex = [
    # Only our own names are looked up: finding those of other projects would need the network.
    ("py:.*", r"(?!inferencegw\.).*"),
    # Type variables and private names show in signatures, and mean nothing to a reader.
    ("py:.*", r".*\.(_\w+|[A-Z]|[A-Z]\w*T)"),
    # What these rooms do not export shows in annotations of what they do: the makings of a call, iterators.
    ("py:class", r"inferencegw\.(rpc|client|replica|gateway)\.\w+\.\w+"),
    ("py:class", r"inferencegw\.gateway\.gate\.\w+"),
    ("py:class", r"inferencegw\.testing\.(sockets|callers|loopback|loopback_host)\.\w+"),
    ("py:.*", r"inferencegw\.v1\..*"),
]


def link_to_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: TextElement
) -> Element | None:
    """Link ``inferencegw.rpc.server.Server`` to ``inferencegw.rpc.Server``, as which users import it."""
    domain = env.domains.python_domain
    parts = node.get("reftarget", "").split(".")
    for dropped in range(1, len(parts) - 1):
        name = ".".join(parts[:dropped] + parts[dropped + 1 :])
        if name in domain.objects:
            return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], name, node, contnode)
    return None


class Printed(SphinxDirective):
    """``.. printed:: swim.timings``: what that function in the package ``printed`` returns at each build."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Called by docutils where the directive stands."""
        module, _, function = self.arguments[0].rpartition(".")
        self.env.note_reread()  # the code may have changed where the chapter has not
        text = getattr(importlib.import_module(f"printed.{module}"), function)()
        return self.parse_text_to_nodes(text)


def setup(app: Sphinx) -> None:
    """What Sphinx calls first."""
    app.add_directive("printed", Printed)
    app.connect("missing-reference", link_to_public_name)
