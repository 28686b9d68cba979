"""``python -m inferencegw`` is ``trio-gw``, and this is where both begin.

The rule: next to nothing is imported outside of :func:`main`. Imports take most of the start-up time, and Ctrl-C during
them is to end as quietly as it does later.
"""

import signal
import sys


def main() -> int:
    """The entry point of ``trio-gw`` and ``python -m inferencegw``; the exit status."""
    try:
        from inferencegw.cli.app import main as command  # noqa: PLC0415

        return command()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
