"""Any average of iterates is a learning-rate schedule, as long as the gradients stay what they were.

    sum_j mu_j theta_{t1+j} = theta_t1 + sum_t w_t (theta_{t1+t+1} - theta_{t1+t}),    w_t = sum_{j > t} mu_j

mu is the kernel (`mu`, k + 1 weights on theta_t1 .. theta_{t1+k}, sum 1), w its tail sums (`kernel_weights`), and
lambda(i) w_{i - t1} the schedule that leads to the average if every gradient stays the same (`equivalent_schedule`).
Sandler et al. 2023, Table 1 and Lemma 2, are three choices of mu.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn


def swa(k: int) -> np.ndarray:
    """mu = (0, 1/k, ..., 1/k): the mean of the last k iterates, (k + 1,) float64 (Table 1, row 1).

    Raises ValueError if k < 1.
    """
    _window(k)
    return np.concatenate([[0.0], np.full(k, 1 / k)])


def two_point(k: int) -> np.ndarray:
    """mu = (1/2, 0, ..., 0, 1/2): the midpoint of two iterates k steps apart, (k + 1,) float64 (Table 1, row 2).

    Raises ValueError if k < 1.
    """
    _window(k)
    mu = np.zeros(k + 1)
    mu[[0, -1]] = 0.5
    return mu


def ema(k: int, delta: float | None = None) -> np.ndarray:
    """mu = ((1-d)^k, d (1-d)^(k-1), ..., d): exponential moving average begun at theta_t1, (k + 1,) float64.

    Table 1, row 3; `delta` is d and defaults to 5/k, which leaves the start 0.7 % of the weight (the paper asks for
    k >> 1/delta and names no number). Raises ValueError if k < 1 or unless 0 < delta <= 1.
    """
    _window(k)
    delta = min(1.0, 5 / k) if delta is None else delta
    if not 0 < delta <= 1:
        raise ValueError(f"delta must be in (0, 1], got {delta}")
    tail = delta * (1 - delta) ** np.arange(k - 1, -1, -1.0)
    return np.concatenate([[(1 - delta) ** k], tail])


def kernel_weights(mu: np.ndarray) -> np.ndarray:
    """w_t = sum(mu[t+1:]), t = 0..k-1: what the average leaves of each step's displacement. mu: (k + 1,) -> (k,).

    Raises ValueError unless mu is a finite vector of at least two weights that sum to 1.
    """
    mu = np.asarray(mu, dtype=np.float64)
    if mu.ndim != 1 or len(mu) < 2 or not np.isfinite(mu).all() or abs(mu.sum() - 1) > 1e-9:
        raise ValueError(f"mu must be at least two finite weights that sum to 1, got shape {mu.shape}, sum {mu.sum()}")
    return np.cumsum(mu[::-1])[::-1][1:].copy()


def equivalent_schedule(base: Callable[[int], float], mu: np.ndarray, start: int) -> Callable[[int], float]:
    """lambda'(i) = base(i) w_{i - start}: the schedule of the side-trip whose end is the average under `mu`.

    The returned schedule raises ValueError outside start <= step < start + k.
    """
    weights = kernel_weights(mu)

    def schedule(step: int) -> float:
        if not start <= step < start + len(weights):
            raise ValueError(f"step must be in [{start}, {start + len(weights)}), got {step}")
        return base(step) * float(weights[step - start])

    return schedule


class KernelAverages:
    """avg_j = sum_s mu_j[s] theta_{t1+s} for many kernels mu_j at once, in one pass over the trajectory.

    Made at theta_t1 and told of every later iterate by `update`; `averages[name]` is ready once its window is over.
    The sums are float64: 3000 fp32 additions would lose the digits in which an average differs from its side-trip.
    """

    def __init__(self, kernels: Mapping[str, np.ndarray], weights: Tensor):
        """kernels: name -> mu, (k_j + 1,); weights: theta_t1, flat (parameters,)."""
        if not kernels:
            raise ValueError("kernels must name at least one kernel, got none")
        # By length, so that the kernels whose window is not over are always the last rows of the sums.
        self._names = sorted(kernels, key=lambda name: len(kernels[name]))
        self._last = np.array([len(kernels[name]) - 1 for name in self._names])
        table = np.zeros((self._last[-1] + 1, len(self._names)))
        for column, name in enumerate(self._names):
            kernel_weights(kernels[name])
            table[: len(kernels[name]), column] = kernels[name]
        self._mu = torch.from_numpy(table).to(weights.device)
        self._sums = torch.outer(self._mu[0], weights.detach().double())
        self.steps = 0

    def update(self, weights: Tensor) -> None:
        """Take in the next iterate, flat (parameters,)."""
        self.steps += 1
        live = int(np.searchsorted(self._last, self.steps))
        if live < len(self._names):
            self._sums[live:].addr_(self._mu[self.steps, live:], weights.detach().double())

    def __getitem__(self, name: str) -> Tensor:
        """The finished average, flat (parameters,) float64. Raises ValueError while its window is still open."""
        row = self._names.index(name)
        if self.steps < self._last[row]:
            raise ValueError(f"average {name!r} needs {self._last[row]} steps, got {self.steps}")
        return self._sums[row]


@torch.no_grad()
def recompute_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace BatchNorm's running statistics by their equal-weight means over `batches` of images.

    Every weight vector that is evaluated goes through this with the same batches: the statistics in the buffers belong
    to other weights. A model without BatchNorm is left as it is. The training mode is restored.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return
    training, momenta = model.training, [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's name for the cumulative mean
    model.train()
    for images in batches:
        model(images)
    model.train(training)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _window(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
