"""`python -m replicate`: the command line is in `replicate.app.cli`."""

import sys

from replicate.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
