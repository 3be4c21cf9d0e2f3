"""theta_{i+1} = theta_i - lambda(i) f(i) u_i        f `factor`: 1 in the main run, w_{i-t1} in a cool-down

The reader's own model and optimizer walk; every walk begins at a file and ends at one, so that what
is finished is not done again, and one that was cut goes on to the same bits.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from replicate import averaging, training
from replicate.cooldown.draws import Draws, list_tensors
from replicate.errors import BadParameter, Diverged
from replicate.progress import pieces

LOOK_EVERY = 50  # steps between two looks at the losses; a look is a synchronisation on a GPU
END, AVERAGE = "end", "average"  # the last state of a walk, and the average on its way
Loss = Callable[[nn.Module, object], Tensor]


@dataclass(frozen=True, eq=False)
class Walk:
    """Where a walk goes: from the state in the file `start` to step `stop`, under `factor`, on the
    mini-batches of `stream`; what it leaves lies in `folder`. mu: the kernel, (stop - start + 1,),
    of an average that is taken on the way.
    """

    name: str
    start: Path
    stop: int
    stream: int
    folder: Path
    factor: Callable[[int], float] = lambda step: 1.0
    mu: np.ndarray | None = None

    @property
    def end(self) -> Path:
        """The file of its last state."""
        return self.folder / f"{END}.ckpt"

    @property
    def average(self) -> Path:
        """The file of the average, (parameters,) float64."""
        return self.folder / "average.ckpt"


class Walker:
    """A reader's model and optimizer, moved in place, with all that their walks share."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        draws: Draws,
        schedule: Callable[[int], float],
        tick: Iterator,
    ):
        """schedule: step -> factor of the optimizer's rates; tick: told of every step."""
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        self.draws = draws
        self.schedule = schedule
        self.tick = tick
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.key = ""

    def identify(self, plan: object) -> None:
        """Name these walks after their beginning: weights, optimizer, plan and first batch."""
        content = hashlib.sha256(repr(plan).encode())
        first = list_tensors(self.draws.batch(0, 0))
        for value in (self.model.state_dict(), self.optimizer.state_dict(), first):
            _digest(value, content)
        self.key = content.hexdigest()[:16]

    def save_start(self, path: Path) -> None:
        """The state before the first step, as a file. Raises BadData where another run's lies."""
        state = training.State(self.model, self.optimizer)
        if path.exists():
            training.load_state(path, state, self.key)
        else:
            training.save_state(path, state, self.key)

    def walk(self, walk: Walk) -> None:
        """Leave the last state of a walk in its file.

        Raises Diverged, naming the first step whose loss is not finite, BadParameter where batches
        are used up, and Paused near a deadline.
        """
        begun = self._load(walk.start).step
        if not walk.end.exists():
            self._go_on(walk, begun)
        else:
            self.count(walk.stop - begun)

    def compute_loss(self, stream: int, step: int) -> Tensor:
        """The loss of a batch where the model is now, with its graph, a 0-d tensor.

        Raises BadParameter unless the reader's function gives one number with a gradient.
        """
        value = self.loss(self.model, self.draws.batch(stream, step))
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise BadParameter(f"loss must give a tensor of one number, got {shape}")
        if not value.requires_grad:
            raise BadParameter("loss must depend on the model's parameters, got one that does not")
        return value.reshape(())

    def load_end(self, walk: Walk) -> training.State:
        """The reader's model and optimizer where the walk ended."""
        return self._load(walk.end)

    def _go_on(self, walk: Walk, begun: int) -> None:
        checkpoints = training.Checkpoints(walk.folder, self.key)
        state = self._state(self._begin_averages(walk.mu), begun)
        if (newest := checkpoints.newest()) is not None:
            state = checkpoints.load(newest, state)
        self.count(state.step - begun)
        losses: list[Tensor] = []
        done = state.step

        def save() -> None:
            self._refuse_divergence(walk, losses, done)
            checkpoints.save(self._state(state.averages, done))

        with torch.enable_grad():
            for step in pieces(range(state.step, walk.stop), save):
                losses.append(self._take_step(walk, step))
                for average in state.averages:
                    average.update(self.model)
                self.count(1)
                done = step + 1
                if done == walk.stop or len(losses) >= LOOK_EVERY:
                    self._refuse_divergence(walk, losses, done)
        for average in state.averages:
            training.save_tensor_file(walk.average, {AVERAGE: average[AVERAGE]})
        checkpoints.keep(
            END, self._state((), walk.stop)
        )  # last: what makes the walk a finished one
        for path in walk.folder.glob("step-*.ckpt"):
            path.unlink()

    def _begin_averages(self, mu: np.ndarray | None) -> tuple:
        if mu is None:
            return ()
        return (averaging.KernelAverages({AVERAGE: mu}, training.flat_weights(self.model)),)

    def _take_step(self, walk: Walk, step: int) -> Tensor:
        scale = self.schedule(step) * walk.factor(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * scale
        self.optimizer.zero_grad()
        loss = self.compute_loss(walk.stream, step)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _refuse_divergence(self, walk: Walk, losses: list[Tensor], done: int) -> None:
        """Empties the list of the last losses."""
        if not losses:
            return
        values = torch.stack(losses)
        if not torch.isfinite(values).all():
            first = int((~torch.isfinite(values)).nonzero()[0])
            step = done - len(losses) + first
            rates = ", ".join(f"{rate:g}" for rate in self.rates)
            raise Diverged(
                f"loss became {float(values[first])} at step {step} of {walk.name} (rate {rates})",
                step,
            )
        losses.clear()

    def _load(self, path: Path) -> training.State:
        return training.load_state(path, self._state(()), self.key)

    def _state(self, averages: tuple, step: int = 0) -> training.State:
        return training.State(self.model, self.optimizer, averages, step)

    def count(self, steps: int) -> None:
        """Tell the progress bar of steps that are done."""
        for _ in range(steps):
            next(self.tick, None)


def remove(folder: Path) -> None:
    """A folder of a walk that is over."""
    shutil.rmtree(folder, ignore_errors=True)


def _digest(value, content) -> None:
    """Add a nested state to a checksum."""
    if isinstance(value, Tensor):
        content.update(f"{value.dtype} {tuple(value.shape)}".encode())
        content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, dict):
        for key, item in value.items():
            content.update(repr(key).encode())
            _digest(item, content)
    elif isinstance(value, list | tuple):
        for item in value:
            _digest(item, content)
    else:
        content.update(repr(value).encode())
