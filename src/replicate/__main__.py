"""`python -m replicate` and the command `replicate`: the command line is in `replicate.app.cli`."""

import sys

from replicate.app.extras import explain
from replicate.app.system import leave
from replicate.errors import Unavailable


def main() -> int:
    """Run the command line; without what it is made of, one line says what to install."""
    try:
        from replicate.app.cli import main as run
    except ModuleNotFoundError as error:
        if (line := explain(error)) is None:
            raise
        print(f"{Unavailable.__name__}: {line}", file=sys.stderr)
        return Unavailable.exit_code
    return run()


def start() -> None:
    """The command `replicate`: run it and end this process with its exit code."""
    leave(main())


if __name__ == "__main__":
    start()
