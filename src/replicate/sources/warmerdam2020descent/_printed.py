"""Code of the post as it is printed, slips included, for `derivations` to run and to look at."""

import numpy as np

from replicate import descent, models


def draw_regression(random: np.random.RandomState, n: int, k: int) -> tuple[np.ndarray, ...]:
    """Section "Enter Jax": X (n, k + 1), y (n,) and the start W (k + 1,), in the order in which the
    block draws. random: NumPy's global generator, as a fresh process finds it.
    """
    both = [np.ones((n, 1)), random.normal(0, 1, (n, k))]
    x = np.concatenate(both, axis=1)
    true_w = random.normal(0, 5, (k + 1,))
    y = x @ true_w
    random.seed(42)
    return x, y, random.normal(0, 1, (k + 1,))


def generate_new_dataset(n_row: int, dim_in: int, dim_hidden: int, n_layers: int) -> tuple:
    """The function of that name: x (n_row, dim_in), y (n_row, 1) and the model in torch."""
    rows = descent.rows(n_row, dim_in, 0)
    dims = descent.published_net(dim_in, dim_hidden, n_layers).dims
    return rows.x.T, rows.y[:, None], models.chain(dims, 0)
