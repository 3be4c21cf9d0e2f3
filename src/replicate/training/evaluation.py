"""metric(theta) = sum over a fixed set of f(outputs at theta, labels) / number of labels.

Comparisons of weight vectors are then paired: the same images, after BatchNorm was re-estimated on
the same batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate.numerics import modes_restored
from replicate.training.weights import load_flat

Metric = Callable[[Tensor, Tensor], Tensor]


def summed_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over images; outputs: logits (n, classes), labels: (n,)."""
    return functional.cross_entropy(outputs, labels, reduction="sum")


def count_correct(outputs: Tensor, labels: Tensor) -> Tensor:
    """How many labels (n,) the largest of the outputs (n, classes) names."""
    return (outputs.argmax(1) == labels).sum()


METRICS: Mapping[str, Metric] = {"loss": summed_cross_entropy, "top1": count_correct}


def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, chunk: int = 500
) -> tuple[float, float]:
    """Mean cross-entropy in nats and share of right answers in [0, 1], in evaluation mode.

    images: (n, channels, height, width); labels: (n,); chunk: images at once, which bounds the
    memory; at 500 a small ResNet's activations stay in a core's cache (1.7x faster than at 2000).
    The sums are float64. Every layer's mode is restored. Raises ValueError without images, or if
    there are more or fewer labels than images.

    >>> evaluate(nn.Identity(), torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1]))[1]
    0.5
    """
    values = measure(model, images, labels, METRICS, chunk)
    return values["loss"], values["top1"]


@torch.no_grad()
def measure(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    metrics: Mapping[str, Metric],
    chunk: int = 500,
) -> dict[str, float]:
    """Each metric's mean over the labels, in evaluation mode; every layer's mode is restored.

    metrics: name -> function of outputs and labels that gives a sum over them, such as a loss with
    reduction="sum"; outputs are float32, sums float64. labels: (n, ...), of which every number
    counts for one: (n,) classes, (n, tokens) or (n, outputs) of a regression. chunk: as in
    `evaluate`. Raises ValueError without images, or if there are more or fewer labels than images.

    >>> squares = {"squared error": lambda outputs, labels: ((outputs - labels) ** 2).sum()}
    >>> measure(nn.Identity(), torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [0.0]]), squares)
    {'squared error': 2.5}
    """
    if not len(images):
        raise ValueError("images must hold at least one image to evaluate on, got none")
    if len(images) != len(labels):
        raise ValueError(f"images and labels must be as many, got {len(images)} and {len(labels)}")
    sums = {name: torch.zeros((), dtype=torch.float64, device=images.device) for name in metrics}
    with modes_restored(model):
        model.eval()
        for x, y in zip(images.split(chunk), labels.split(chunk), strict=True):
            outputs = model(x).float()
            for name, metric in metrics.items():
                sums[name] += metric(outputs, y).double()
    return {name: float(total) / labels.numel() for name, total in sums.items()}


class Evaluator:
    """(theta) -> {column: metric of a set at theta}, with BatchNorm re-estimated at every theta.

    The sets, the batches and so the images are the same for every weight vector. The model is the
    evaluator's to fill: its parameters, buffers and modes are put back afterwards, also after an
    error.

    >>> model = nn.Linear(1, 2, bias=False)
    >>> sets = {"test": (torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1]))}
    >>> evaluator = Evaluator(model, sets, columns={"top1": ("test", "top1")})
    >>> evaluator(torch.tensor([1.0, -1.0]))
    {'top1': 0.5}
    """

    def __init__(
        self,
        model: nn.Module,
        sets: Mapping[str, tuple[Tensor, Tensor]],
        batches: Sequence[Tensor] = (),
        re_estimate: Callable[[nn.Module, Sequence[Tensor]], None] | None = None,
        metrics: Mapping[str, Metric] = METRICS,
        columns: Mapping[str, tuple[str, str]] | None = None,
        chunk: int = 500,
    ):
        """sets: name -> (images (n, ...), labels (n, ...)), as `measure` takes them; metrics: as
        there.

        batches: images that BatchNorm is re-estimated on, by `re_estimate(model, batches)`, such as
        `averaging.recompute_batch_norm`. columns: what is given, name -> (set, metric), in this
        order; by default every metric of every set, called <set>_<metric>. Raises ValueError if a
        column names another set or metric, if there are batches and nothing that re-estimates on
        them, or if the model has BatchNorm statistics and nothing does.
        """
        if re_estimate is None and len(batches):
            raise ValueError(
                f"re_estimate must be given with batches, got {len(batches)} batches alone"
            )
        if re_estimate is None and _has_statistics(model):
            raise ValueError(
                "re_estimate must be given for a model with BatchNorm: "
                "its statistics are of other weights"
            )
        if columns is None:
            columns = {f"{data}_{name}": (data, name) for data in sets for name in metrics}
        for column, (data, name) in columns.items():
            if data not in sets or name not in metrics:
                raise ValueError(
                    f"column {column!r} must be of a set and a metric, got {data!r} and {name!r}"
                )
        self.model = model
        self.sets = dict(sets)
        self.batches = batches
        self.re_estimate = re_estimate
        self.metrics = dict(metrics)
        self.columns = dict(columns)
        self.chunk = chunk

    def __call__(self, weights: Tensor | None = None) -> dict[str, float]:
        """The columns at weights (parameters,), by default those that the model has now."""
        with _restore_model(self.model, weights is not None):
            if weights is not None:
                load_flat(self.model, weights)
            if self.re_estimate is not None:
                self.re_estimate(self.model, self.batches)
            values = {
                data: self._measure(data)
                for data in dict.fromkeys(data for data, _ in self.columns.values())
            }
        return {column: values[data][name] for column, (data, name) in self.columns.items()}

    def _measure(self, data: str) -> dict[str, float]:
        """The metrics of one set that a column asks for."""
        names = {name for of, name in self.columns.values() if of == data}
        metrics = {name: metric for name, metric in self.metrics.items() if name in names}
        images, labels = self.sets[data]
        return measure(self.model, images, labels, metrics, self.chunk)


def _has_statistics(model: nn.Module) -> bool:
    """Whether a layer normalises by running statistics in evaluation mode."""
    return any(getattr(layer, "running_mean", None) is not None for layer in model.modules())


@contextmanager
def _restore_model(model: nn.Module, weights: bool) -> Iterator[None]:
    """Buffers, modes and, if asked, the weights of a model as they were before."""
    tensors = [*model.buffers(), *(model.parameters() if weights else ())]
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        with modes_restored(model):
            yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
