"""Double precision in jax for one call; the flag of the process is never touched."""

from contextlib import AbstractContextManager

import jax

from replicate.errors import unknown

DTYPES = ("float32", "float64")


def precision(dtype: str) -> AbstractContextManager:
    """A context in which jax computes in `dtype`; ValueError if it is neither float32 nor float64."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return jax.enable_x64(dtype == "float64")
