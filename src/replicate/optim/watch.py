"""A forward pass that leaves no trace: buffers and random state are those from before."""

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from replicate.errors import BadParameter


class Watch:
    """Calls a closure that computes a loss, and puts back what it changes.

    The first call notes the modules that the closure calls; their buffers are put back after it and
    after every later one. torch's random state is, too, on the CPU and where the parameters are.

    >>> net = nn.BatchNorm1d(2)
    >>> loss = Watch()(lambda: net(torch.randn(8, 2)).sum())
    >>> net.running_mean, net.num_batches_tracked
    (tensor([0., 0.]), tensor(0))
    """

    def __init__(self):
        self._modules: weakref.WeakSet | None = None  # outermost ones; None: not looked yet
        self._moved: list = []
        self._name = ""

    @contextmanager
    def of(self, moved: list, name: str) -> Iterator[None]:
        """A step of the optimizer `name`, in which closures may not touch gradients.

        moved: (parameter, gradient, rate) of what it moves. Gradients that a closure took away are
        back at the end.

        >>> theta = torch.nn.Parameter(torch.ones(1))
        >>> theta.grad = torch.ones(1)
        >>> watch = Watch()
        >>> with watch.of([(theta, theta.grad, 0.1)], "KeepStepping"):
        ...     watch(lambda: (theta**2).sum().backward())
        Traceback (most recent call last):
        replicate.errors.BadParameter: the closure of KeepStepping.step must compute the loss ...
        """
        self._moved = moved
        self._name = name
        handles = [p.register_hook(self._refuse_backward) for p, _, _ in moved if p.requires_grad]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for parameter, gradient, _ in moved:
                if parameter.grad is not gradient:
                    parameter.grad = gradient
            self._moved = []

    def __call__(self, closure: Callable[[], Tensor]) -> Tensor:
        versions = [gradient._version for _, gradient, _ in self._moved]
        devices = {p.device for p, _, _ in self._moved if p.is_cuda}
        with torch.random.fork_rng(devices), self._buffers_put_back():
            try:
                loss = closure()
            except RuntimeError as error:
                if self._are_touched(versions) or "does not require grad" in str(error):
                    self._refuse_backward()
                raise
        if self._are_touched(versions):
            self._refuse_backward()
        return loss

    def _are_touched(self, versions: list[int]) -> bool:
        pairs = zip(self._moved, versions, strict=True)
        return any(p.grad is not g or g._version != version for (p, g, _), version in pairs)

    def _refuse_backward(self, *_) -> None:
        raise BadParameter(
            f"the closure of {self._name}.step must compute the loss and nothing else, but it "
            "calls zero_grad or backward; call both before step, and give it the forward pass"
        )

    @contextmanager
    def _buffers_put_back(self) -> Iterator[None]:
        # Their values, since BatchNorm writes into a tensor without counting up its version.
        buffers: dict[Tensor, Tensor] = {}
        with ExitStack() as stack:
            if self._modules is None:
                stack.enter_context(self._noting(buffers))
            else:
                for module in self._modules:
                    _remember(module, buffers)
            try:
                yield
            finally:
                with torch.no_grad():
                    for buffer, value in buffers.items():
                        buffer.copy_(value)

    @contextmanager
    def _noting(self, buffers: dict) -> Iterator[None]:
        """Note every outermost module that is called, and remember its buffers."""
        modules = weakref.WeakSet()

        @torch._dynamo.disable
        def note(module: nn.Module, _) -> None:
            if isinstance(module, DistributedDataParallel):
                self._refuse_distributed()
            if _remember(module, buffers):
                modules.add(module)

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are")
            handle = register_module_forward_pre_hook(note)
            try:
                yield
            finally:
                handle.remove()
        self._modules = modules

    def _refuse_distributed(self) -> None:
        raise BadParameter(
            f"the closure of {self._name}.step must not call a DistributedDataParallel, whose "
            "processes would end their walks at different lengths; call its .module, and average "
            "the loss over the processes"
        )


def _remember(module: nn.Module, buffers: dict[Tensor, Tensor]) -> bool:
    """Add the buffers of a module and of all inside it, with their values; whether one was new."""
    new = [buffer for buffer in module.buffers() if buffer not in buffers]
    buffers.update({buffer: buffer.detach().clone() for buffer in new})
    return bool(new)
