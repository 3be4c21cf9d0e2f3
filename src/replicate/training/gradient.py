"""The gradient of a mini-batch's loss, straight from the page, and as one CUDA graph that ends at
the same numbers.

A small batch is bound by launches: a ResNet-18's gather, forward and backward pass are some 250 of
them, and a graph is one. The update stays outside, a launch or two on one vector, so that any
optimizer, scheduler and average fits.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

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
    """(seed, stream, step) -> loss: `plain_gradient`, on CUDA its graph, captured once for a model
    and its data.
    """
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


@contextmanager
def restore_buffers(buffers: Iterable[Tensor]) -> Iterator[None]:
    """Puts back what runs that warm up change, also after an error."""
    before = [(buffer, buffer.clone()) for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


class GraphedGradient:
    """`plain_gradient` with every input in memory that stays: tables of the epoch, and the batch's
    place in it.

    Between two epochs the tables are copied; inside one the host waits for nothing and sends one
    number a step.
    """

    def __init__(
        self, model: nn.Module, data, capture: Callable[[Callable[[], None]], Callable[[], None]]
    ):
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
        self.place(seed, stream, step)
        if self._replay is None:
            with restore_buffers(self.buffers()):
                self._replay = self._capture(self.compute)
        self._replay()
        return self.take_gradient()

    def place(self, seed: int, stream: int, step: int) -> None:
        """Say which batch comes next."""
        epoch, index = divmod(step, self.data.per_epoch)
        if self._epoch != (seed, stream, epoch):
            for name, table in self.data.tables(seed, stream, epoch).items():
                self._tables.setdefault(name, torch.empty_like(table)).copy_(table)
            self._epoch = (seed, stream, epoch)
        self._first.fill_(index * self.data.size)

    def take_gradient(self) -> Tensor:
        """The loss, and the gradients where an optimizer looks for them."""
        # Whoever set a gradient to None took the graph's memory off the parameter, not out of the
        # graph.
        for parameter, gradient in zip(self._model().parameters(), self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss.clone()

    def buffers(self) -> list[Tensor]:
        """What a run of `compute` moves on besides gradients: BatchNorm's statistics."""
        return list(self._model().buffers())

    def compute(self) -> None:
        """What a graph is made of."""
        model, rows = self._model(), self._first + self._offsets
        images, labels = self.data.gather(
            {name: table.index_select(0, rows) for name, table in self._tables.items()}
        )
        model.zero_grad()
        loss = self.data.loss(model(images), labels)
        loss.backward()
        self._loss.copy_(loss.detach())
        self._gradients = [parameter.grad for parameter in model.parameters()]


class GraphedGradients:
    """The gradients of several models as branches of one graph, where one alone leaves a part of
    the device idle.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        data,
        capture: Callable[[Callable[[], None]], Callable[[], None]],
    ):
        """models: each is told its own batches of `data`; capture: as for `GraphedGradient`."""
        self._models = list(models)  # a GraphedGradient alone does not keep its model alive
        self._each = [GraphedGradient(model, data, capture) for model in models]
        self._capture = capture
        self._replay: Callable[[], None] | None = None

    def __call__(self, runs: Sequence[tuple[int, int]], step: int) -> list[Tensor]:
        """runs: (seed, stream) of each model's mini-batches; the losses, each as `plain_gradient`
        gives it.
        """
        for one, (seed, stream) in zip(self._each, runs, strict=True):
            one.place(seed, stream, step)
        if self._replay is None:
            with restore_buffers([buffer for one in self._each for buffer in one.buffers()]):
                self._replay = self._capture(self._compute)
        self._replay()
        return [one.take_gradient() for one in self._each]

    def _compute(self) -> None:
        if self._each[0].data.device.type != "cuda":
            for one in self._each:
                one.compute()
            return
        own = torch.cuda.current_stream()
        sides = [torch.cuda.Stream() for _ in self._each]
        for one, side in zip(self._each, sides, strict=True):
            side.wait_stream(own)
            with torch.cuda.stream(side):
                one.compute()
        for side in sides:
            own.wait_stream(side)
