"""avg_j = theta_t1 + sum_s mu_j[s] (theta_{t1+s} - theta_t1): many averages of one walk at once."""

import copy
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from replicate.averaging.batch_norm import recompute_batch_norm
from replicate.averaging.kernels import describe, kernel_weights
from replicate.errors import unknown
from replicate.numerics import full_precision

Weights = Tensor | nn.Module | Iterable[Tensor]
TENSORS = ("start", "ring", "sums")  # of a state, besides the kernels


class KernelAverages:
    """avg_j = theta_t1 + sum_s mu_j[s] (theta_{t1+s} - theta_t1) for many kernels mu_j at once.

    Made at theta_t1 and told of every later iterate by `update` (or `update_parameters`, as torch's
    AveragedModel calls it); `averages[name]` is ready once its window is over, and `model(name)` is
    a network to evaluate. The displacements go into a ring, and one matrix product adds BLOCK of
    them to every sum: for 32 kernels a tenth of the time of 32 running averages. They are sums of
    displacements, so float32 loses digits of the way travelled, which is what an average and its
    side-trip differ by, and not of the weights.

    >>> from replicate.averaging import swa, two_point
    >>> net = nn.Linear(2, 1, bias=False)
    >>> net.weight = nn.Parameter(torch.zeros(1, 2))
    >>> net.weight.grad = torch.tensor([[-1.0, -2.0]])
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    >>> averages = KernelAverages({"last 2": swa(2), "ends": two_point(2)}, net)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     averages.update(net)
    >>> averages["last 2"], averages["ends"]
    (tensor([1.5000, 3.0000], dtype=torch.float64), tensor([1., 2.], dtype=torch.float64))
    >>> averages
    KernelAverages({'last 2': swa(k=2), 'ends': two_point(k=2)}, weights=2, steps=2)
    """

    BLOCK = 16  # iterates per product: 3 + 2 kernels / BLOCK passes over the weights per step

    def __init__(
        self,
        kernels: Mapping[str, np.ndarray],
        weights: Weights,
        device: str | torch.device | None = None,
    ):
        """kernels: name -> mu, (k_j + 1,); weights: theta_t1, a model, parameters or one vector.

        The sums have the precision of the weights, and lie on `device`, by default that of the
        weights. Raises ValueError without kernels, if one is not a kernel, or unless the weights
        are all float32 or all float64.
        """
        if not kernels:
            raise ValueError("kernels must name at least one kernel, got none")
        self._model = weights if isinstance(weights, nn.Module) else None
        start = _join(_parts(weights))
        self._start = start if device is None else start.to(device)
        # By length, so that the kernels whose window is not over are the last rows of the sums.
        self._kernels = {
            name: np.asarray(kernels[name], dtype=np.float64)
            for name in sorted(kernels, key=lambda name: len(kernels[name]))
        }
        self._names = list(self._kernels)
        self._last = np.array([len(mu) - 1 for mu in self._kernels.values()])
        self._mu = torch.from_numpy(_table(self._kernels.values())).to(self._start)
        self._ring = self._start.new_zeros(self.BLOCK, len(self._start))
        self._sums = self._start.new_zeros(len(self._names), len(self._start))
        self.steps = 0
        self._summed = 0

    @property
    def device(self) -> torch.device:
        """Where the sums lie."""
        return self._start.device

    def update(self, weights: Weights) -> None:
        """Take in the next iterate: the model, its parameters or one vector; lent for the call
        only.

        Raises ValueError if there are more or fewer weights than at the start.
        """
        if self.steps < self._last[-1]:
            self._displace(_parts(weights), self._ring[self.steps - self._summed])
        self.steps += 1
        if self.steps - self._summed == self.BLOCK:
            self._sum_ring()

    update_parameters = update

    def __getitem__(self, name: str) -> Tensor:
        """The finished average, flat (parameters,) float64.

        Raises ValueError while its window is still open, and if there is no average of that name.
        """
        if name not in self._kernels:
            raise unknown("average", name, self._names)
        row = self._names.index(name)
        if self.steps < self._last[row]:
            raise ValueError(f"average {name!r} needs {self._last[row]} steps, got {self.steps}")
        if self._summed < self._last[row]:
            self._sum_ring()
        return self._start.double() + self._sums[row].double()

    def model(self, name: str, batches: Iterable[Tensor] | None = None) -> nn.Module:
        """A copy of the model at the finished average, in evaluation mode.

        Its BatchNorm statistics are re-estimated on `batches`; without batches they are those of
        the live model, which belong to other weights. Raises ValueError if the average is not
        ready, or if this was made of weights and not of a model.

        >>> from replicate.averaging import swa
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        >>> averages = KernelAverages({"swa": swa(1)}, net)
        >>> averages.update(net)
        >>> averaged = averages.model("swa", [torch.randn(8, 2)])
        >>> averaged(torch.zeros(5, 2)).shape, averaged.training, net.training
        (torch.Size([5, 3]), False, True)
        """
        if self._model is None:
            raise ValueError(
                "averages of bare weights have no model; give KernelAverages the model"
            )
        average = self[name]
        model = copy.deepcopy(self._model)
        _fill(model, average)
        if batches is not None:
            recompute_batch_norm(model, batches)
        return model.eval()

    def state_dict(self) -> dict:
        """Everything from which `load_state_dict` goes on, in the middle of a block too.

        >>> from replicate.averaging import swa
        >>> averages, others = (KernelAverages({"swa": swa(2)}, torch.zeros(3)) for _ in range(2))
        >>> averages.update(torch.ones(3))
        >>> others.load_state_dict(averages.state_dict())
        >>> others
        KernelAverages({'swa': swa(k=2)}, weights=3, steps=1)
        """
        tensors = {"start": self._start, "ring": self._ring, "sums": self._sums, "mu": self._mu}
        counts = {"names": list(self._names), "steps": self.steps, "summed": self._summed}
        return tensors | counts

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on where `state_dict` was made. Raises ValueError if it is of other kernels or another
        model.
        """
        here = self.state_dict()
        same = state_dict.keys() == here.keys() and state_dict["names"] == here["names"]
        if not same or any(state_dict[n].shape != here[n].shape for n in (*TENSORS, "mu")):
            raise ValueError(
                f"state_dict must be of the kernels {self._names} and {len(self._start)} weights"
            )
        if not torch.equal(state_dict["mu"].to(self._mu), self._mu):
            raise ValueError(
                f"state_dict must be of the same weights mu of {self._names}, got others"
            )
        for name in TENSORS:
            here[name].copy_(state_dict[name])
        self.steps = state_dict["steps"]
        self._summed = state_dict["summed"]

    def __repr__(self) -> str:
        kernels = ", ".join(f"{name!r}: {describe(mu)}" for name, mu in self._kernels.items())
        return f"KernelAverages({{{kernels}}}, weights={len(self._start)}, steps={self.steps})"

    def _displace(self, parts: list[Tensor], row: Tensor) -> None:
        """row <- theta - theta_t1, tensor by tensor: in one pass, in whatever layout they lie."""
        sizes = [part.numel() for part in parts]
        if sum(sizes) != len(row):
            raise ValueError(
                f"weights must be {len(row)} numbers as at the start, got {sum(sizes)}"
            )
        for part, start, place in zip(
            parts, self._start.split(sizes), row.split(sizes), strict=True
        ):
            shape = part.shape
            torch.sub(part.to(row.device), start.view(shape), out=place.view(shape))

    def _sum_ring(self) -> None:
        """Add the displacements in the ring to the sums of the windows that they lie in."""
        first = self._summed
        end = min(self.steps, int(self._last[-1]))
        if end > first:
            live = slice(int(np.searchsorted(self._last, first + 1)), None)
            with full_precision():
                closed = [
                    (rows, self._sum_block(rows, first, stop))
                    for rows, stop in self._closing(live, end)
                ]
                self._sums[live].addmm_(
                    self._mu[live, first + 1 : end + 1], self._ring[: end - first]
                )
            # Behind a window's end mu is 0, and 0 times a weight that diverged is NaN: then the sum
            # of the window alone counts. Chosen on the device, so that no host waits for it.
            for rows, alone in closed:
                sums = self._sums[rows]
                sums.copy_(torch.where(sums.isfinite(), sums, alone))
        self._summed = self.steps

    def _closing(self, live: slice, end: int) -> list[tuple[slice, int]]:
        """(rows of the sums, their last iterate) of the windows that are over before iterate
        `end`.
        """
        stops = self._last[live]
        stops = stops[stops < end]
        ends = np.unique(stops)
        edges = live.start + np.searchsorted(stops, ends, side="right")
        rows = map(slice, [live.start, *edges[:-1]], edges)
        return list(zip(rows, map(int, ends), strict=True))

    def _sum_block(self, rows: slice, first: int, stop: int) -> Tensor:
        """What the sums of these rows are after the iterates first + 1 .. stop of the ring."""
        mu = self._mu[rows, first + 1 : stop + 1]
        return self._sums[rows].clone().addmm_(mu, self._ring[: stop - first])


def _parts(weights: Weights) -> list[Tensor]:
    """The tensors of a model, of an iterable of parameters, or the one vector."""
    if isinstance(weights, Tensor):
        return [weights.detach()]
    tensors = weights.parameters() if isinstance(weights, nn.Module) else weights
    return [tensor.detach() for tensor in tensors]


def _join(parts: list[Tensor]) -> Tensor:
    """A copy of the tensors as one vector.

    Raises ValueError unless they are all float32 or all float64.
    """
    if not parts:
        raise ValueError("weights must have parameters, got none")
    types = sorted({str(part.dtype) for part in parts})
    if len(types) > 1:
        raise ValueError(f"weights must be of one type, got {' and '.join(types)}")
    if parts[0].dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"weights must be float32 or float64, sums lose digits in less, got {parts[0].dtype}"
        )
    return torch.cat([part.reshape(-1) for part in parts])


def _table(kernels: Iterable[np.ndarray]) -> np.ndarray:
    """The kernels as rows of one matrix, filled up with zeros.

    Raises ValueError if one is not a kernel.
    """
    kernels = list(kernels)
    table = np.zeros((len(kernels), max(map(len, kernels))))
    for row, mu in zip(table, kernels, strict=True):
        kernel_weights(mu)
        row[: len(mu)] = mu
    return table


@torch.no_grad()
def _fill(model: nn.Module, vector: Tensor) -> None:
    """Put a vector into a model's parameters, each in its own layout and precision."""
    parameters = list(model.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, part in zip(parameters, vector.split(sizes), strict=True):
        parameter.copy_(part.view(parameter.shape))
