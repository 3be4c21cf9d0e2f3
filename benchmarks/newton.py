"""Goal C7: Newton's method on a linear regression of a million rows and eleven columns, float32 data.

One step is the answer, whatever computes it. NumPy's lstsq computes in float64, as `normal_equations` does; SciPy and
scikit-learn stay in float32, and their answers show it.
"""

import os
import sys
import tracemalloc

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from _interleaved import ratios, table
from sklearn.linear_model import LinearRegression

from replicate.descent import mean_squared_error, newton, normal_equations, regression

N, K, ROUNDS = 1_000_000, 10, 7
GOALS = {"jax.hessian and inv, eager": 15, "jax.hessian and solve, compiled": 4, "numpy.linalg.lstsq": 10}
MOST_ERROR, MOST_MIB = 1e-12, 180


def step(w, x, y):
    """w - H^-1 g as one writes it first."""
    return w - jnp.linalg.solve(jax.hessian(mean_squared_error)(w, x, y), jax.grad(mean_squared_error)(w, x, y))


def eager(w, x, y):
    """The source's lines."""
    return w - jnp.linalg.inv(jax.hessian(mean_squared_error)(w, x, y)) @ jax.grad(mean_squared_error)(w, x, y)


def versions() -> tuple[dict, np.ndarray]:
    """name -> job that gives the weights (11,), and the weights that made the data."""
    data = regression(N, K, seed=0, dtype="float32")
    x, y = data.x, (data.x.astype(np.float64) @ data.weights).astype(np.float32)
    on_device = jnp.zeros(K + 1), jnp.asarray(x), jnp.asarray(y)
    compiled = jax.jit(step)
    # For some milliseconds after jax has answered its threads still work, and cost the next job: ours follows NumPy.
    jobs = {
        "jax.hessian and inv, eager": lambda: np.asarray(eager(*on_device)),
        "jax.hessian and solve, compiled": lambda: np.asarray(compiled(*on_device)),
        "descent.newton, float32": lambda: newton(mean_squared_error, np.zeros(K + 1), 1, (x, y), "solve", "float32")[
            0
        ][1],
        "numpy.linalg.lstsq": lambda: np.linalg.lstsq(x, y)[0],
        "scipy.linalg.lstsq, gelsy, float32": lambda: scipy.linalg.lstsq(x, y, lapack_driver="gelsy")[0],
        "scikit-learn, float32": lambda: LinearRegression(fit_intercept=False).fit(x, y).coef_,
        "normal_equations": lambda: normal_equations(x, y).weights,
    }
    return jobs, np.linalg.lstsq(x.astype(np.float64), y.astype(np.float64))[0]


def extra_mib(job) -> float:
    """What NumPy allocates at most while `job` runs."""
    tracemalloc.start()
    job()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def main() -> int:
    """Equal results first, then the ratios; 1 if results differ."""
    jobs, exact = versions()
    errors = {name: np.linalg.norm(job() - exact) / np.linalg.norm(exact) for name, job in jobs.items()}
    if max(errors.values()) > 1e-4 or errors["normal_equations"] > MOST_ERROR:
        print(f"  results differ: {errors}")
        return 1
    found = ratios(jobs, ROUNDS)
    print(table(f"Newton on {N} x {K + 1}, one step", found))
    for name, error in errors.items():
        print(f"  {name:44} relative error {error:.1e}")
    for name, goal in GOALS.items():
        print(f"  goal C7: {name} at least {goal}x, found {np.median(found[name]):.1f}x")
    extra = extra_mib(jobs["normal_equations"])
    print(f"  goal C7: error at most {MOST_ERROR}; extra memory at most {MOST_MIB} MiB, found {extra:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
