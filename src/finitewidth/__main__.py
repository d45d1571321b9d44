"""`python -m finitewidth` is the command line."""

import sys

from finitewidth.frontends.cli import main

if __name__ == "__main__":
    sys.exit(main())
