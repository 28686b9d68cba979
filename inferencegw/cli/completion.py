"""``trio-gw completion``: what a shell needs to complete commands and flags."""

from typing import Annotated, Literal

from cyclopts import Parameter


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell.")]) -> None:
    """Print a script that has a shell complete the commands and flags of ``trio-gw``.

    Example: ``trio-gw completion bash > ~/.local/share/bash-completion/completions/trio-gw``

    Exit status: 0; 2 for a shell that is not known.
    """
    # Here, because this module is one of those that it is made of.
    from inferencegw.cli.app import app  # noqa: PLC0415

    print(app.generate_completion(shell=shell))
