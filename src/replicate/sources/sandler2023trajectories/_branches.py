"""A main run at a constant rate, and what it leaves at its branch points: states, raw weights,
averages of windows.

A branch starts from the state that was left; it goes on with the same mini-batches, or with those
of another stream.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, datasets, optim, training
from replicate.progress import pieces
from replicate.sources import images as kit
from replicate.sources.images import DRAWS, MAIN
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.training import schedules

LOG_EVERY = 100  # steps per row of the main run's loss


def main_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Train once at the main schedule; leave states at the branch points and the averages of each
    window.

    Returns columns step and train_loss, the mean over LOG_EVERY steps of the mini-batches' losses.
    A run that was killed, or paused before a deadline, goes on from its newest checkpoint and ends
    at the same bits.
    """
    main = Main.load(settings, point["seed"], device)
    checkpoints = training.Checkpoints(
        folder / "checkpoints", f"{folder.parent.name} {folder.name}"
    )
    state, log = _begin(main, checkpoints)

    def save() -> None:
        checkpoints.save(state, {"losses": log})

    for stop in pieces(_stops(settings, state.step), save):
        state, losses = training.advance(state, main.data, main.rate, main.seed, MAIN, stop)
        log = np.concatenate([log, losses])
        state = _save_branch_point(state, settings, folder)
    losses = pd.DataFrame({"step": range(len(log)), "train_loss": log})
    return losses.groupby(losses.step // LOG_EVERY * LOG_EVERY, as_index=False).mean()


@dataclass(frozen=True, eq=False)
class Main:
    """What a main run and its branches share: settings, seed, device, images, mini-batches and the
    constant rate.
    """

    settings: Settings
    seed: int
    device: str
    images: datasets.Images
    data: datasets.Batches

    @classmethod
    def load(cls, settings: Settings, seed: int, device: str) -> Main:
        """Raises Missing if the data set is not there."""
        images = datasets.load(settings.dataset)
        return cls(
            settings, seed, device, images, kit.batches(settings, images, settings.batch, device)
        )

    @property
    def rate(self):
        """The main run's schedule: constant after a linear warm-up."""
        return schedules.warmup(schedules.constant(self.settings.lr), self.settings.warmup)

    def state(self) -> training.State:
        """The state before the first step."""
        model = kit.network(self.settings, self.seed, self.images, self.device)
        rates = {
            "lr": self.settings.lr,
            "momentum": self.settings.momentum,
            "weight_decay": self.settings.weight_decay,
        }
        return training.State(model, optim.SGD(model.parameters(), fused=True, **rates))

    def resume(self, path: Path) -> training.State:
        """A state that was left. Raises Missing or BadData."""
        return training.load_state(path, self.state())

    def evaluator(self):
        """A function from weights to losses and accuracies, on images and BatchNorm batches that
        never change.
        """
        # The same images for every seed: comparisons are paired, and no seed has easier ones.
        settings, images = self.settings, self.images
        if settings.noisy_draws:
            train = self.data.draws(0, DRAWS, settings.train_images)
        else:
            first = slice(settings.train_images)
            train = self.data.plain(images.train_x[first], images.train_y[first])
        sets = {"train": train, "test": self.data.plain(images.test_x, images.test_y)}
        norm = kit.norm_batches(self.data, settings.norm_batch, settings.norm_batches)
        return kit.evaluator(kit.network(settings, 0, images, self.device), sets, norm)


def _begin(main: Main, checkpoints) -> tuple[training.State, np.ndarray]:
    """Where the main run begins or goes on, and the losses of the steps before."""
    state, at = main.state(), checkpoints.newest()
    if at is None:
        return state, np.empty(0)
    settings = main.settings
    if any(start <= at < start + settings.longest for start in settings.starts):
        state = _with_averages(state, settings)
    return checkpoints.load(at, state), checkpoints.records(at)["losses"]


def _with_averages(state: training.State, settings: Settings) -> training.State:
    """The state with running averages that start at its weights."""
    averages = averaging.KernelAverages(_kernels(settings), training.flat_weights(state.model))
    return replace(state, averages=(averages,))


def _stops(settings: Settings, begun: int) -> list[int]:
    """The steps after `begun` at which the main run leaves something behind, and every
    LOG_EVERY-th.
    """
    marked = {
        start + k for start in settings.starts for k in (0, *_marks(settings), settings.longest)
    }
    return sorted(
        stop for stop in marked | set(range(0, settings.steps, LOG_EVERY)) if stop > begun
    )


def _save_branch_point(state: training.State, settings: Settings, folder: Path) -> training.State:
    """Save what is due at this step after the newest branch points; the state, with averages
    attached or removed.

    Due are, k steps after a branch point: the raw weights at the end of each window; the state from
    which a late side-trip sets in; at the longest window's end all ends in one file; at the branch
    point itself the state.
    """
    for branch, start in enumerate(settings.starts):
        k, name = state.step - start, f"branch-{branch}"
        if k in _marks(settings):
            training.save_tensor_file(
                folder / f"{name}-raw-{k}.ckpt", {"raw": training.flat_weights(state.model)}
            )
        if settings.longest - k in settings.last_windows and 0 < k:
            training.save_state(
                folder / f"{name}-last-{settings.longest - k}.ckpt", replace(state, averages=())
            )
        if k == settings.longest:
            training.save_tensor_file(
                folder / f"{name}-ends.ckpt", _ends(state, settings, folder, name)
            )
            state = replace(state, averages=())
        if k == 0:
            training.save_state(folder / f"{name}.ckpt", state)
            state = _with_averages(state, settings)
    return state


def _ends(state: training.State, settings: Settings, folder: Path, name: str) -> dict:
    """Raw weights at the end of each window, which lie in files of their own until then, and the
    averages.
    """
    files = {f"raw k={k}": folder / f"{name}-raw-{k}.ckpt" for k in sorted(_marks(settings))}
    raw = {end: training.load_tensor_file(path)[0]["raw"] for end, path in files.items()}
    return raw | {average: state.averages[0][average] for average in _kernels(settings)}


def windows(settings: Settings) -> list[tuple[str, int]]:
    """(kernel, k) of every window."""
    families = (
        ("two-point", sorted(settings.two_point)),
        ("swa", settings.swa),
        ("ema", settings.ema),
    )
    return [(name, k) for name, windows in families for k in windows]


def _kernels(settings: Settings) -> dict:
    """Kernels by the name their averages are saved under."""
    kernels = {
        f"{name} k={k}": kernel(name, k) for name, k in [*windows(settings), ("two-point", 1)]
    }
    return kernels | {"last": averaging.ema(settings.longest, settings.last_delta)}


def _marks(settings: Settings) -> set[int]:
    """Steps after a branch point at which the main run leaves something behind."""
    late = {settings.longest - k for k in settings.last_windows if k < settings.longest}
    return {1, *settings.two_point, *settings.swa, *settings.ema} | late


def kernel(name: str, k: int) -> np.ndarray:
    """The weights of a kernel over a window of k steps, (k + 1,)."""
    return {"two-point": averaging.two_point, "swa": averaging.swa, "ema": averaging.ema}[name](k)


def count_training(settings: Settings, steps: int) -> float:
    """Multiplications and additions of so many steps."""
    return steps * settings.batch * kit.operations_per_image(settings, settings.dataset)[1]


def count_evaluation(settings: Settings, rows: int) -> float:
    """Multiplications and additions of so many evaluations: BatchNorm's batches, and the images
    that are judged.
    """
    test = datasets.describe(settings.dataset).test_images
    images = settings.norm_batches * settings.norm_batch + settings.train_images + test
    return rows * images * kit.operations_per_image(settings, settings.dataset)[0]
