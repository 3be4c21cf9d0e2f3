"""The gradient of a mini-batch's loss, straight from the page, and as one CUDA graph that ends at the same numbers.

A small batch is bound by launches: a ResNet-18's gather, forward and backward pass are some 250 of them, and a graph is
one. The update stays outside, a launch or two on one vector, so that any optimizer, scheduler and average fits.
"""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn

WARM = 3  # runs before a capture, in which cuDNN and autograd take what they keep; torch's notes on CUDA graphs
_GRAPHS: "weakref.WeakKeyDictionary[nn.Module, GraphedGradient]" = weakref.WeakKeyDictionary()


def plain_gradient(model: nn.Module, data, seed: int, stream: int, step: int) -> Tensor:
    """Put the gradient of the batch's loss into `.grad` of the parameters; the loss, a 0-d tensor."""
    images, labels = data.batch(seed, stream, step)
    model.zero_grad()
    loss = data.loss(model(images), labels)
    loss.backward()
    return loss.detach()


def gradient_of(model: nn.Module, data) -> Callable[[int, int, int], Tensor]:
    """(seed, stream, step) -> loss: `plain_gradient`, on CUDA its graph, captured once for a model and its data."""
    if not next(model.parameters()).is_cuda:
        return lambda seed, stream, step: plain_gradient(model, data, seed, stream, step)
    graph = _GRAPHS.get(model)
    if graph is None or graph.data is not data:
        graph = _GRAPHS[model] = GraphedGradient(model, data, cuda_graph)
    return graph


def cuda_graph(compute: Callable[[], None]) -> Callable[[], None]:
    """What replays `compute` in one launch, on the same memory."""
    side, own = torch.cuda.Stream(), torch.cuda.current_stream()
    side.wait_stream(own)
    with torch.cuda.stream(side):
        for _ in range(WARM):
            compute()
    own.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        compute()
    return graph.replay


class GraphedGradient:
    """`plain_gradient` with every input in memory that stays: tables of the epoch, and the batch's place in it.

    Between two epochs the tables are copied; inside one the host waits for nothing and sends one number a step.
    """

    def __init__(self, model: nn.Module, data, capture: Callable[[Callable[[], None]], Callable[[], None]]):
        """data: `Batches`; capture: makes of a computation what replays it, such as `cuda_graph`."""
        self.data, self._capture, self._model = data, capture, weakref.ref(model)
        self._first = torch.zeros((), dtype=torch.int64, device=data.device)
        self._offsets = torch.arange(data.size, device=data.device)
        self._loss = torch.zeros((), device=data.device)
        self._tables: dict[str, Tensor] = {}
        self._epoch: tuple = ()
        self._replay: Callable[[], None] | None = None

    def __call__(self, seed: int, stream: int, step: int) -> Tensor:
        """As `plain_gradient`."""
        epoch, index = divmod(step, self.data.per_epoch)
        if self._epoch != (seed, stream, epoch):
            for name, table in self.data.tables(seed, stream, epoch).items():
                self._tables.setdefault(name, torch.empty_like(table)).copy_(table)
            self._epoch = (seed, stream, epoch)
        self._first.fill_(index * self.data.size)
        if self._replay is None:
            self._replay = self._captured()
        self._replay()
        # Whoever set a gradient to None took the graph's memory off the parameter, not out of the graph.
        for parameter, gradient in zip(self._model().parameters(), self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss.clone()

    def _captured(self) -> Callable[[], None]:
        """Runs that warm up move BatchNorm's statistics, which are put back."""
        kept = [(buffer, buffer.clone()) for buffer in self._model().buffers()]
        replay = self._capture(self._compute)
        for buffer, value in kept:
            buffer.copy_(value)
        return replay

    def _compute(self) -> None:
        model, rows = self._model(), self._first + self._offsets
        images, labels = self.data.gather({name: table.index_select(0, rows) for name, table in self._tables.items()})
        model.zero_grad()
        loss = self.data.loss(model(images), labels)
        loss.backward()
        self._loss.copy_(loss.detach())
        self._gradients = [parameter.grad for parameter in model.parameters()]
