"""`compare`: runs of a reader's model, and from a few points of each the trips that answer."""

import copy
import functools
import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from replicate import training
from replicate.averaging import KernelSchedule, swa
from replicate.cooldown.comparison import Comparison
from replicate.cooldown.draws import Draws, randomness_restored
from replicate.cooldown.losses import JUDGED_STREAM, Losses
from replicate.cooldown.plan import Plan
from replicate.cooldown.predict import need_sgd, predict_gains
from replicate.cooldown.walks import AVERAGE, Loss, Walk, Walker, remove
from replicate.errors import BadData, BadParameter
from replicate.paths import write_atomic
from replicate.progress import progress

JUDGED_BATCHES = 50  # ours; of the training data, where no held-out batches are given


def compare(
    model: nn.Module,
    loss: Loss,
    batches,
    optimizer: torch.optim.Optimizer,
    *,
    window: int,
    steps: int,
    kernel: Callable[[int], np.ndarray] = swa,
    branches: int = 3,
    runs: int = 5,
    held_out: Sequence | None = None,
    schedule: Callable[[int], float] | None = None,
    directions: int = 0,
    norm_batches: int = 50,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Comparison:
    """Would averaging weights do for this model what a cool-down does?

        ratio = (L(raw) - L(average)) / (L(raw) - L(cool-down))

    Every run trains the model for `steps` from the weights and optimizer state that it has now, on
    mini-batches of its own, and is left at `branches` points, each `window` steps before the end of
    a stretch: by a cool-down on the same mini-batches, whose rate falls by the kernel's tail sums;
    by one on others; and at a constant rate on others, which is the control. The average is that of
    the run itself over the window. Model, optimizer and random generators are as before afterwards.

    loss: (model, batch) -> 0-d tensor, a mean over the batch; where there is BatchNorm, a forward
    pass in it is what re-estimates the statistics, for every weight vector, on `norm_batches`.
    batches: a DataLoader over a data set with a length, of which this draws the order; a sequence of
    batches; or a function of (stream, step). held_out: batches that are judged on, by default 50 of
    the training data. kernel: k -> mu, (k + 1,), such as `averaging.swa`, `two_point`, `ema`.
    schedule: step -> factor of the optimizer's rates in the main run, constant if None. runs: the
    unit of intervals; fewer than 5 decide nothing, and 1 takes branch points for units. directions:
    of the Hessian, from which gains are predicted at each run's last branch point, for SGD alone.
    folder: where a run that was cut goes on from to the same bits; without it nothing is kept.

    Raises BadParameter for a model without parameters, an optimizer of another model, a window
    longer than the run, batches that are used up or that differ when drawn again; Diverged for a
    loss that is not finite; Paused near REPLICATE_DEADLINE; BadData if the folder is of another
    comparison.
    """
    plan = Plan(window, kernel, steps, branches, runs, directions, norm_batches, seed)
    _check(model, optimizer)
    if directions:
        need_sgd(optimizer, schedule)
    device = next(model.parameters()).device
    place = tempfile.TemporaryDirectory() if folder is None else nullcontext(folder)
    with place as path, randomness_restored(device), _put_back(model, optimizer):
        draws = Draws(batches, seed, device)
        draws.check(JUDGED_STREAM)
        tick = iter(progress(range(plan.total), "compare"))
        walker = Walker(model, optimizer, loss, draws, schedule or _keep_rate, tick)
        losses = Losses(model, loss, draws, _hold_out(held_out, draws), norm_batches)
        return _Study(plan, walker, losses, Path(path)).compare()


class _Study:
    """What the runs of one comparison share."""

    def __init__(self, plan: Plan, walker: Walker, losses: Losses, folder: Path):
        self.plan = plan
        self.walker = walker
        self.losses = losses
        self.folder = folder
        self.begin = folder / "begin.ckpt"

    def compare(self) -> Comparison:
        """All runs, one after the other."""
        self.walker.identify(self.plan)
        self.walker.save_start(self.begin)
        rows = [row for run in range(self.plan.runs) for row in self._measure_run(run)]
        return Comparison.of(rows, self.plan.mu)

    def _measure_run(self, run: int) -> Iterator[dict]:
        previous = None
        for branch, start in enumerate(self.plan.starts):
            walks = self._list_walks(run, branch, previous.end if previous else self.begin)
            yield self._measure_branch(run, branch, walks)
            for name, walk in walks.items():
                if name != "window":
                    remove(walk.folder)
            if previous:
                remove(previous.folder)
            previous = walks["window"]
        remove(previous.folder)

    def _list_walks(self, run: int, branch: int, begin: Path) -> dict[str, Walk]:
        """The walks of one branch point by name, in their order."""
        start = self.plan.starts[branch]
        stop = start + self.plan.window
        main, other = self.plan.streams(run)
        fall = KernelSchedule(1.0, self.plan.mu, start)
        label = f"run {run + 1}"

        def walk(name: str, **how) -> Walk:
            folder = self.folder / f"run-{run}-branch-{branch}" / name
            how = {"name": f"{label}, {name}", "stop": stop, "folder": folder, **how}
            return Walk(**how)

        approach = walk("approach", start=begin, stop=start, stream=main)
        trip = functools.partial(walk, start=approach.end)
        walks = [
            ("approach", approach),
            ("window", trip("window", stream=main, mu=self.plan.mu)),
            ("cool_down", trip("cool-down", stream=main, factor=fall)),
            ("constant", trip("constant", stream=other)),
            ("other_cool_down", trip("cool-down on other batches", stream=other, factor=fall)),
        ]
        if branch == 0:
            walks.append(("replay", trip("replay", stream=main, factor=fall)))
        return dict(walks)

    def _measure_branch(self, run: int, branch: int, walks: dict[str, Walk]) -> dict:
        """The row of one branch point, from its file if it is there."""
        path = self.folder / f"run-{run}-branch-{branch}.json"
        if path.exists():
            self.walker.count(self.plan.count_steps(branch))
            return self._read_row(path)
        for walk in walks.values():
            self.walker.walk(walk)
        row = {"run": run, "branch": branch, "start": self.plan.starts[branch]}
        row |= self._measure_ends(self._load_ends(walks))
        if self.plan.directions and branch == self.plan.branches - 1:
            row |= self._predict(walks, run)
        content = {"comparison": self.walker.key, "row": row}
        write_atomic(path, json.dumps(content, indent=1).encode())
        return row

    def _read_row(self, path: Path) -> dict:
        try:
            content = json.loads(path.read_bytes())
            key = content["comparison"]
            row = content["row"]
        except (ValueError, KeyError, TypeError):
            raise BadData(f"{path} is damaged; remove it, and it is measured again") from None
        if key != self.walker.key:
            raise BadData(f"{path} is of another comparison; name another folder")
        return row

    def _load_ends(self, walks: dict[str, Walk]) -> dict[str, Tensor]:
        """Weights by arm, (parameters,) each."""
        ends = {}
        for name, walk in walks.items():
            if name != "approach":
                self.walker.load_end(walk)
                ends[name] = training.flat_weights(self.walker.model)
        ends["raw"] = ends.pop("window")
        average = training.load_tensor_file(walks["window"].average)[0][AVERAGE]
        return ends | {"average": average.to(ends["raw"].device)}

    def _measure_ends(self, ends: dict[str, Tensor]) -> dict[str, float]:
        row = {name: self.losses.at(weights) for name, weights in ends.items()}
        row["apart"] = training.distance(ends["average"], ends["cool_down"])
        row["independent"] = training.distance(ends["cool_down"], ends["other_cool_down"])
        row["travelled"] = training.distance(ends["average"], ends["raw"])
        if "replay" in ends:
            row["replayed_apart"] = training.distance(ends["cool_down"], ends["replay"])
        return row

    def _predict(self, walks: dict[str, Walk], run: int) -> dict[str, float]:
        """Gains from curvature and noise at the average of a window."""
        walker = self.walker
        walker.load_end(walks["window"])
        average = training.load_tensor_file(walks["window"].average)[0][AVERAGE]
        training.load_flat(walker.model, average)
        predicted = predict_gains(walker, self.plan.mu, self.plan.directions, run)
        return {f"predicted_{name}": gain for name, gain in predicted.items()}


def _keep_rate(step: int) -> float:
    return 1.0


def _hold_out(held_out: Iterable | None, draws: Draws) -> Sequence:
    """The batches that are judged on."""
    if held_out is None:
        count = min(JUDGED_BATCHES, draws.per_epoch or JUDGED_BATCHES)
        return [draws.batch(JUDGED_STREAM, step) for step in range(count)]
    judged = list(held_out)
    if not judged:
        raise BadParameter("held_out must hold at least one batch, got none")
    return judged


def _check(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raises BadParameter unless the optimizer trains parameters of the model, by gradients alone."""
    kinds = {"model": (model, nn.Module), "optimizer": (optimizer, torch.optim.Optimizer)}
    for name, (given, kind) in kinds.items():
        if not isinstance(given, kind):
            raise BadParameter(
                f"{name} must be a torch {kind.__name__}, got {type(given).__name__}"
            )
    if len(_list_required(type(optimizer).step)) > 1:  # more than itself
        raise BadParameter(
            f"optimizer must step without a closure, got {type(optimizer).__name__}, which asks for one"
        )
    parameters = list(model.parameters())
    if not parameters:
        raise BadParameter(f"model must have parameters, got {type(model).__name__} with none")
    if any(type(parameter) is nn.UninitializedParameter for parameter in parameters):
        raise BadParameter("model must have seen a batch, got parameters without a shape")
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if strange := {id(each) for each in trained} - {id(each) for each in parameters}:
        raise BadParameter(
            f"optimizer must train the model's parameters, got {len(strange)} that it does not have"
        )


def _list_required(function: Callable) -> list[str]:
    """The names of the arguments without which it cannot be called."""
    arguments = inspect.signature(function).parameters.values()
    given = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        each.name for each in arguments if each.default is each.empty and each.kind not in given
    ]


@contextmanager
def _put_back(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Model and optimizer as they were before, after an error too; in training mode meanwhile."""
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    modes = [(layer, layer.training) for layer in model.modules()]
    gradients = [(each, each.grad) for each in model.parameters()]
    if not model.training:  # else a layer in evaluation mode is one that its owner froze
        model.train()
    try:
        yield
    finally:
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        for layer, is_trained in modes:
            layer.training = is_trained
        for parameter, gradient in gradients:
            parameter.grad = gradient
