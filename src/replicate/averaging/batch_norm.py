"""mean_c = mean over batches of the batch's mean, var_c likewise: BatchNorm at these weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from replicate.numerics import modes_restored

BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def recompute_batch_norm(model: nn.Module, batches: Iterable[Tensor | tuple | list]) -> None:
    """Replace BatchNorm's running statistics by their equal-weight means over `batches` of images.

    Every weight vector that is evaluated goes through this with the same batches: the statistics in
    the buffers belong to other weights. A batch is a tensor, or a tuple or list whose first item it
    is, as data loaders give them. A model without BatchNorm is left as it is, and so is a frozen
    layer, one that is in evaluation mode while the model is in training mode. Every layer's mode
    and momentum are restored, and if anything raises, the statistics too. Raises ValueError if
    there are no batches, or one without images.

    >>> net = nn.Sequential(nn.BatchNorm1d(1, affine=False)).eval()
    >>> recompute_batch_norm(net, [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [8.0]])])
    >>> net[0].running_mean, net[0].running_var  # of (1, 6) and of (2, 8)
    (tensor([3.5000]), tensor([5.]))
    """
    layers = [layer for layer in model.modules() if _is_estimated(layer, model)]
    if not layers:
        return
    with modes_restored(model), _cumulative(layers):
        if not model.training:  # else each layer is in the mode that it is trained in
            model.train()
        count = 0
        for count, batch in enumerate(batches, 1):
            images = batch[0] if isinstance(batch, tuple | list) else batch
            if not len(images):
                raise ValueError(
                    "batches must hold images to re-estimate BatchNorm on, "
                    f"got none in batch {count}"
                )
            model(images)
        if not count:
            raise ValueError(
                "batches must hold at least one batch to re-estimate BatchNorm on, got none"
            )


def _is_estimated(layer: nn.Module, model: nn.Module) -> bool:
    """Whether a layer has running statistics, and is not frozen by itself."""
    frozen = model.training and not layer.training
    return isinstance(layer, BatchNorm) and layer.track_running_stats and not frozen


@contextmanager
def _cumulative(layers: list[nn.Module]) -> Iterator[None]:
    """Statistics begun anew, as plain means over what comes; put back if anything raises."""
    momenta = [layer.momentum for layer in layers]
    before = [[buffer.clone() for buffer in layer.buffers()] for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's name for the cumulative mean
        yield
    except BaseException:
        for layer, buffers in zip(layers, before, strict=True):
            for buffer, value in zip(layer.buffers(), buffers, strict=True):
                buffer.copy_(value)
        raise
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
