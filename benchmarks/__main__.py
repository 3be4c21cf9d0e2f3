"""`python benchmarks [TOPIC ...]`: check that results are equal, then print ratios and goals."""

import os
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")  # before jax
FOLDER = str(Path(__file__).resolve().parent)
# Python puts this folder first, where `benchmarks` is not to be found and `training` is.
sys.path = [str(Path(FOLDER).parent), *(entry for entry in sys.path if entry != FOLDER)]


def main() -> int:
    """Run the topics that are named, or all; a failure is one line and its exit code."""
    from benchmarks import harness
    from replicate.errors import Failure

    try:
        harness.run_topics(sys.argv[1:], partial(print, flush=True))
    except Failure as failure:
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
