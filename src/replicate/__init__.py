"""Four papers on the trajectories of stochastic gradient descent, every claim measured and judged."""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("replicate")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
