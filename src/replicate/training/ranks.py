"""One training run on several processes: rank r has a slice of every mini-batch.

    L(theta) = sum_r (n_r / n) L_r(theta)

n images of a mini-batch, n_r of them on rank r, L_r their mean loss; so gradients, weighted by n_r /
n, are summed over the ranks, and the slices need not be equal. A mini-batch is a pure function of
(seed, stream, step): nothing but gradients, losses and BatchNorm's moments is sent. As the sum has
the same bits on every rank, so have the weights, and averages and checkpoints know nothing of ranks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from replicate.errors import BadParameter
from replicate.training import loop


@contextmanager
def train_together(synchronise: bool = True) -> Iterator[None]:
    """Within the block every step of `training.steps` is made by all ranks of the process group.

    synchronise: whether BatchNorm's moments are those of the mini-batch, as in one process, or each
    rank's own.
    """
    alone = loop.gradient_of
    loop.gradient_of = lambda model, data: gradient_by_slices(model, data, synchronise)
    try:
        yield
    finally:
        loop.gradient_of = alone


def gradient_by_slices(
    model: nn.Module, data, synchronise: bool = True
) -> Callable[[int, int, int], Tensor]:
    """(seed, stream, step) -> loss of the mini-batch, as `gradient.gradient_of` gives it; all ranks
    have to call.

    Raises BadParameter where a mini-batch has fewer images than there are ranks.
    """
    rank, ranks = distributed.get_rank(), distributed.get_world_size()

    def gradient(seed: int, stream: int, step: int) -> Tensor:
        size, images, labels = take_slice(data, seed, stream, step, rank, ranks)
        moments = SharedMoments(size, len(images)) if synchronise else nullcontext()
        model.zero_grad()
        with moments:
            loss = data.loss(model(images), labels) * (len(images) / size)
            loss.backward()
        return sum_over_ranks(list(model.parameters()), loss.detach())

    return gradient


def take_slice(
    data, seed: int, stream: int, step: int, rank: int, ranks: int
) -> tuple[int, Tensor, Tensor]:
    """The images of the mini-batch, and those and the labels of a rank's slice of it.

    data: has `batch_slice` and `size` where it need not make the others, as data on disk.
    """
    if hasattr(data, "batch_slice"):
        rows = slice_of(data.size, rank, ranks)
        return data.size, *data.batch_slice(seed, stream, step, rows)
    images, labels = data.batch(seed, stream, step)
    rows = slice_of(len(images), rank, ranks)
    return len(images), images[rows], labels[rows]


def slice_of(images: int, rank: int, ranks: int) -> slice:
    """The rows of a mini-batch that a rank has; their numbers differ by one at most.

    Raises BadParameter if a rank would have none.
    """
    if ranks > images:
        raise BadParameter(
            f"a mini-batch of {images} images is too small for {ranks} ranks; start fewer of them"
        )
    return slice(rank * images // ranks, (rank + 1) * images // ranks)


@torch.no_grad()
def sum_over_ranks(parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Sum the gradients over the ranks, in place and in one message; the sum of the losses."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    parts = [parameter.grad.reshape(-1) for parameter in trained]
    message = torch.cat([*parts, loss.reshape(1).to(parts[0])])
    distributed.all_reduce(message)
    sums = message.split([*map(len, parts), 1])
    for parameter, total in zip(trained, sums[:-1], strict=True):
        parameter.grad.copy_(total.view(parameter.shape))
    return sums[-1][0].to(loss.dtype)


class Sum(torch.autograd.Function):
    """y = sum_r x_r on every rank; its gradient is the sum of the gradients."""

    @staticmethod
    def forward(context, values: Tensor) -> Tensor:
        """As torch calls it."""
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        """As torch calls it."""
        return Sum.forward(context, gradient)


class SharedMoments(TorchFunctionMode):
    """Every batch_norm in training mode takes mean and variance over the slices of all ranks.

    (torch's own SyncBatchNorm computes on CUDA alone, and needs other layers in the model.)
    """

    def __init__(self, images: int, count: int):
        """images: of the mini-batch; count: of this rank's slice."""
        super().__init__()
        self.images, self.count = images, count

    def __torch_function__(self, function, types, args=(), options: Mapping | None = None):
        """As torch calls it."""
        options = options or {}
        if function is not functional.batch_norm:
            return function(*args, **options)
        return self._normalise(function, *args, **options)

    def _normalise(
        self, function, x, mean=None, variance=None, weight=None, bias=None, training=False,
        momentum=0.1, eps=1e-5,
    ) -> Tensor:  # fmt: skip
        if not training:
            return function(x, mean, variance, weight, bias, training, momentum, eps)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        values = x if x.dtype == torch.float64 else x.float()
        total = values.numel() // values.shape[1] // self.count * self.images
        average = Sum.apply(values.sum(axes)) / total
        centred = values - average.view(shape)
        spread = Sum.apply((centred * centred).sum(axes)) / total
        with torch.no_grad():
            if mean is not None:
                mean.lerp_(average.to(mean), momentum)
                variance.lerp_((spread * (total / (total - 1))).to(variance), momentum)
        result = centred * (spread + eps).rsqrt().view(shape)
        if weight is not None:
            result = result * weight.view(shape) + bias.view(shape)
        return result.to(x.dtype)
