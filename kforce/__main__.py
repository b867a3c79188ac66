"""The command line as a module: python -m kforce."""

import sys

from kforce.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
