"""Goal C7: Newton's method on a linear regression of a million rows and eleven columns.

One step is the answer, whatever computes it; data are float32. NumPy's lstsq computes in float64,
as `normal_equations` does; SciPy and scikit-learn stay in float32, and their answers show it.
"""

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from sklearn.linear_model import LinearRegression

from benchmarks import goals, harness, peers_in_jax
from replicate.descent import mean_squared_error, newton, normal_equations, regression

COLUMNS = 10  # and the column of the constant
EAGER = "jax.hessian and inv, eager"
COMPILED = "jax.hessian and solve, compiled"
LAPACK = "numpy.linalg.lstsq"
OURS = "normal_equations"


@dataclass(frozen=True)
class Size:
    """rows: of the regression."""

    rows: int = 1_000_000
    rounds: int = 7


FULL = Size()
TINY = Size(2000, rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """The ratios, then errors and memory."""
    jobs, exact = make_jobs(size.rows)
    title = f"Newton on {size.rows} x {COLUMNS + 1}, one step"
    yield harness.compare(
        harness.Comparison(
            title,
            jobs,
            lambda: {name: job() / np.linalg.norm(exact) for name, job in jobs.items()},
            (0, 1e-4),  # float32 has these digits
            {
                "C7 eager": (EAGER, OURS),
                "C7 compiled": (COMPILED, OURS),
                "C7 lapack": (LAPACK, OURS),
            },  # fmt: skip
            size.rounds,
            is_stated=size == FULL,
        )
    )
    yield harness.Table("relative error, and what NumPy allocates", list_costs(jobs, exact, size))


def make_jobs(rows: int) -> tuple[dict[str, harness.Job], np.ndarray]:
    """name -> job that gives the weights (11,), the last ours; and the exact weights."""
    data = regression(rows, COLUMNS, seed=0, dtype="float32")
    x = data.x
    y = (data.x.astype(np.float64) @ data.weights).astype(np.float32)
    start = np.zeros(COLUMNS + 1)
    arrays = (jnp.zeros(COLUMNS + 1), jnp.asarray(x), jnp.asarray(y))
    eager = peers_in_jax.newton_by_inverse(mean_squared_error)
    compiled = peers_in_jax.newton_by_solve(mean_squared_error)
    # For some milliseconds after jax has answered its threads still work, and cost the next job:
    # ours follows NumPy.
    jobs = {
        EAGER: lambda: np.asarray(eager(*arrays)),
        COMPILED: lambda: np.asarray(compiled(*arrays)),
        "descent.newton, float32": lambda: newton(
            mean_squared_error, start, 1, (x, y), "solve", "float32"
        )[0][1],
        LAPACK: lambda: np.linalg.lstsq(x, y)[0],
        "scipy.linalg.lstsq, gelsy, float32": lambda: scipy.linalg.lstsq(
            x, y, lapack_driver="gelsy"
        )[0],
        "scikit-learn, float32": lambda: LinearRegression(fit_intercept=False).fit(x, y).coef_,
        OURS: lambda: normal_equations(x, y).weights,
    }
    return jobs, np.linalg.lstsq(x.astype(np.float64), y.astype(np.float64))[0]


def list_costs(jobs: dict[str, harness.Job], exact: np.ndarray, size: Size) -> list[harness.Row]:
    """The relative error of every answer, and the memory of ours."""
    is_stated = size == FULL
    rows = []
    for name, job in jobs.items():
        error = np.linalg.norm(job() - exact) / np.linalg.norm(exact)
        key = goals.choose("C7 error", is_stated and name == OURS)
        rows.append(harness.Row(key, f"{name}: error", "relative", [error]))
    key = goals.choose("C7 memory", is_stated)
    return [*rows, harness.Row(key, f"{OURS}: extra", "MiB", [measure_memory(jobs[OURS])])]


def measure_memory(job: harness.Job) -> float:
    """What NumPy allocates at most while `job` runs, in MiB."""
    tracemalloc.start()
    job()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20
