"""Any average of iterates is a learning-rate schedule, as long as the gradients stay what they were.

    sum_j mu_j theta_{t1+j} = theta_t1 + sum_t w_t (theta_{t1+t+1} - theta_{t1+t}),    w_t = sum_{j > t} mu_j

mu is the kernel (`mu`, k + 1 weights on theta_t1 .. theta_{t1+k}, sum 1), w its tail sums (`kernel_weights`), and
lambda(i) w_{i - t1} the schedule that leads to the average if every gradient stays the same (`equivalent_schedule`).
Sandler et al. 2023, Table 1 and Lemma 2, are three choices of mu.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

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
    """avg_j = theta_t1 + sum_s mu_j[s] (theta_{t1+s} - theta_t1) for many kernels mu_j at once.

    Made at theta_t1 and told of every later iterate by `update`; `averages[name]` is ready once its window is over.
    The displacements go into a ring, and one matrix product adds BLOCK of them to every sum: for 32 kernels a tenth
    of the time of 32 running averages. They are sums of displacements, so float32 loses digits of the way travelled,
    which is what an average and its side-trip differ by, and not of the weights.
    """

    BLOCK = 16  # iterates a product: 3 + 2 kernels / BLOCK passes over the weights a step

    def __init__(self, kernels: Mapping[str, np.ndarray], weights: Tensor):
        """kernels: name -> mu, (k_j + 1,); weights: theta_t1, flat (parameters,), whose precision the sums have.

        Raises ValueError without kernels, if one is not a kernel, or unless the weights are float32 or float64.
        """
        if not kernels:
            raise ValueError("kernels must name at least one kernel, got none")
        if weights.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"weights must be float32 or float64, sums lose digits in less, got {weights.dtype}")
        # By length, so that the kernels whose window is not over are always the last rows of the sums.
        self._names = sorted(kernels, key=lambda name: len(kernels[name]))
        self._last = np.array([len(kernels[name]) - 1 for name in self._names])
        table = np.zeros((len(self._names), self._last[-1] + 1))
        for row, name in enumerate(self._names):
            kernel_weights(kernels[name])
            table[row, : len(kernels[name])] = kernels[name]
        self._mu = torch.from_numpy(table).to(weights)
        self._start = weights.detach().clone()
        self._ring = weights.new_zeros(self.BLOCK, len(weights))
        self._sums = weights.new_zeros(len(self._names), len(weights))
        self.steps = self._summed = 0

    def update(self, weights: Tensor) -> None:
        """Take in the next iterate, flat (parameters,)."""
        if self.steps < self._last[-1]:
            torch.sub(weights.detach(), self._start, out=self._ring[self.steps - self._summed])
        self.steps += 1
        if self.steps - self._summed == self.BLOCK:
            self._add()

    def __getitem__(self, name: str) -> Tensor:
        """The finished average, flat (parameters,) float64. Raises ValueError while its window is still open."""
        row = self._names.index(name)
        if self.steps < self._last[row]:
            raise ValueError(f"average {name!r} needs {self._last[row]} steps, got {self.steps}")
        if self._summed < self._last[row]:
            self._add()
        return self._start.double() + self._sums[row].double()

    def state_dict(self) -> dict:
        """Everything from which `load_state_dict` goes on, in the middle of a block too."""
        tensors = {"start": self._start, "ring": self._ring, "sums": self._sums, "mu": self._mu}
        return tensors | {"names": list(self._names), "steps": self.steps, "summed": self._summed}

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on where `state_dict` was made. Raises ValueError if it is of other kernels or another model."""
        own = self.state_dict()
        same = state_dict.keys() == own.keys() and state_dict["names"] == own["names"]
        if not same or any(state_dict[n].shape != own[n].shape for n in ("start", "ring", "sums", "mu")):
            raise ValueError(f"state_dict must be of the kernels {self._names} and {len(self._start)} weights")
        if not torch.equal(state_dict["mu"].to(self._mu), self._mu):
            raise ValueError(f"state_dict must be of the same weights mu of {self._names}, got others")
        for name in ("start", "ring", "sums"):
            own[name].copy_(state_dict[name])
        self.steps, self._summed = state_dict["steps"], state_dict["summed"]

    def _add(self) -> None:
        """The displacements that are in the ring, into the sums of the windows they lie in."""
        live, end = int(np.searchsorted(self._last, self._summed + 1)), min(self.steps, int(self._last[-1]))
        if end > self._summed:
            mu, ring = self._mu[live:, self._summed + 1 : end + 1], self._ring[: end - self._summed]
            with _full_precision():
                self._sums[live:].addmm_(mu, ring)
        self._summed = self.steps


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 in float32: neither TF32 nor bfloat16, whatever the training around them uses."""
    # Autocast is no matter: it leaves operations in place alone.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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
