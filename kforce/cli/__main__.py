"""Run the command line as ``python -m kforce.cli``."""

import sys

from kforce.cli.main import main

sys.exit(main())
