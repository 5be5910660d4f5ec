"""`python -m supermask` is the command `supermask`."""

import sys

from supermask.cli import main

if __name__ == "__main__":
    sys.exit(main())
