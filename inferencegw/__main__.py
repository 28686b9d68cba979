"""``python -m inferencegw`` is ``trio-gw``."""

import sys

from inferencegw.cli.app import main

sys.exit(main())
