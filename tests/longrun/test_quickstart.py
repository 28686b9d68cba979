"""The quickstart of the documentation: its commands are run, all of them, in order, as they stand there.

The rule: what a newcomer copies is what is run, by a shell, in a folder of its own; only the ports are others, since
these may be taken, and the installation is not repeated. A block's class says what is to be expected of it: one in the
``background`` goes on until everything has been run, one that ``fails`` has to.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.docs.quickstart import BLOCKS, PAGE, PORTS

PATIENCE: Final = 110.0
"""Seconds for one block, on a busy machine."""

PROMISED: Final = 600.0
"""Seconds in which the page says that a newcomer is through, who also reads it and waits for the installation."""

READING: Final = 300.0
"""Of those, what is left to the newcomer."""


def free_ports() -> dict[str, str]:
    """For each port of the page one that is free; of those that follow each other, ones that do."""
    with ExitStack() as held:

        def take(port: int) -> int:
            taken = held.enter_context(socket.socket())
            taken.bind(("127.0.0.1", port))
            return int(taken.getsockname()[1])

        def pair() -> tuple[int, int]:
            for _ in range(100):
                first = take(0)
                try:
                    return first, take(first + 1)
                except (OSError, OverflowError):
                    continue
            raise OSError("no two ports in a row are free")

        return dict(zip(PORTS, map(str, (*pair(), *pair(), take(0))), strict=True))


@contextmanager
def in_the_background(commands: str, environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Run it until the block ends, from when it says that it is ready; then it has to go down in order."""
    # exec: the signal is for the command, not for the shell around it.
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", f"exec {commands}"],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready "), line
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


@pytest.mark.brief
def test_every_command_on_the_page_does_what_it_says(tmp_path: Path) -> None:
    """From the secrets to the rollout, with TLS and keys all the way, and in the time that it promises."""
    assert "in ten\nminutes" in PAGE.read_text(encoding="utf-8")
    began = time.monotonic()
    for tool in ("openssl", "curl", "bash"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not here")
    script = tmp_path / "bin" / "trio-gw"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m inferencegw "$@"\n')
    script.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PAGE.parents[1]),
    }
    ports = free_ports()
    exports = ""
    folder = tmp_path / "quickstart"
    folder.mkdir()
    with ExitStack() as stack:
        for block in BLOCKS:
            commands = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda match: ports[match[0]], block.commands)
            if block.kind == "install":
                continue
            if block.kind == "background":
                stack.enter_context(in_the_background(commands, environment, folder))
                continue
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", exports + commands],
                env=environment,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert (ran.returncode != 0) == (block.kind == "fails"), f"{commands}\n{ran.stdout}\n{ran.stderr}"
            # A terminal keeps what was exported; each block here has a shell of its own.
            exports += "".join(line + "\n" for line in commands.splitlines() if line.startswith("export "))
    assert time.monotonic() - began <= PROMISED - READING
