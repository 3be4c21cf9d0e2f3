"""Four papers on the trajectories of stochastic gradient descent, every claim measured and judged."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replicate.cooldown.study import compare


def __getattr__(name: str):
    if name == "__version__":
        from importlib.metadata import version

        return version("replicate")
    if name == "compare":
        from replicate.cooldown.study import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
