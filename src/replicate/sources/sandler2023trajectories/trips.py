"""A main run, the averages of its windows, and the side-trips whose schedules should lead to the same loss.

Windows are anchored at their start, the branch point: a side-trip of k steps and the average over the main run's next k
steps begin at the same weights and momentum. Every weight vector is evaluated on the same images, after BatchNorm was
re-estimated on the same batches.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import datasets, models, runs, training
from replicate.averaging import KernelAverages, ema, equivalent_schedule, recompute_batch_norm, swa, two_point
from replicate.optim import SGD
from replicate.progress import pieces
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.training import schedules

MAIN, OTHER = 0, 1  # streams of mini-batches
NORM, DRAWS = 2**31, 2**31 + 1  # streams nobody trains on
KERNELS = {"two-point": two_point, "swa": swa, "ema": ema}
LOG_EVERY = 100  # steps a row of the main run's loss


def figure_5(settings: Settings) -> pd.DataFrame:
    """Losses of raw, averaged and side-trip weights at every window of every branch point (Figs. 1 and 5, Table 1).

    Columns: seed, branch, start (step), kernel, k, arm, train_loss and test_loss (nats), train_top1 and top1
    (fractions), to_average and travelled (Euclidean: |weights - average|, |average - start|). Arms: start, raw (the
    window's end), average, side-trip, other-batches (the side-trip on other mini-batches), constant-rate (the main
    schedule on other mini-batches).
    """
    main = runs.each(main_run, settings, [{"seed": s} for s in settings.seeds])
    grid = [{"seed": s, "branch": b} for s in settings.seeds for b in range(settings.branches)]
    return runs.each(side_trips, settings, grid, after=main).table


def last_steps(settings: Settings) -> pd.DataFrame:
    """Ends of EMA side-trips that set in k steps before one common end (Table 1's caption).

    Columns: seed, branch, k, arm (raw, average, side-trip), and the losses and accuracies of `figure_5`. Without
    `last_windows` the table is empty.
    """
    if not settings.last_windows:
        return pd.DataFrame()
    main = runs.each(main_run, settings, [{"seed": s} for s in settings.seeds])
    grid = [{"seed": s, "branch": b} for s in settings.seeds for b in range(settings.branches)]
    return runs.each(late_trips, settings, grid, after=main).table


def main_run(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Train once at the main schedule; leave states at the branch points and the averages of each window.

    Returns columns step and train_loss, the mean over LOG_EVERY steps of the mini-batches' losses. A run that was
    killed, or paused before a deadline, goes on from its newest checkpoint and ends at the same bits.
    """
    images, rate = datasets.load(settings.dataset), _schedule(settings)
    data, seed = _batches(settings, images, device), point["seed"]
    checkpoints = training.Checkpoints(folder / "checkpoints", f"{folder.parent.name} {folder.name}")
    state, log = _begun(settings, seed, images, device, checkpoints)

    def save() -> None:
        checkpoints.save(state, {"losses": log})

    for stop in pieces(_stops(settings, state.step), save):
        state, losses = training.advance(state, data, rate, seed, MAIN, stop)
        log = np.concatenate([log, losses])
        state = _left_behind(state, settings, folder)
    losses = pd.DataFrame({"step": range(len(log)), "train_loss": log})
    return losses.groupby(losses.step // LOG_EVERY * LOG_EVERY, as_index=False).mean()


def side_trips(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Every side-trip from one branch point, and the worth of its end and of all it is compared with.

    A run that was paused goes on with the first row that it does not have.
    """
    images = datasets.load(settings.dataset)
    data, seed, branch = _batches(settings, images, device), point["seed"], point["branch"]
    start = _resumed(settings, seed, images, device, parents[0] / f"branch-{branch}.ckpt")
    ends, _ = training.load_tensor_file(parents[0] / f"branch-{branch}-ends.ckpt")
    origin, worth = training.flat_weights(start.model), _worth(settings, images, data, device)
    plan, rows = _plan(settings, start, data, ends, seed), runs.kept_rows(folder)
    for arm, kernel, k, weights_of in pieces(plan[len(rows) :], lambda: runs.keep_rows(folder, rows)):
        weights, average = weights_of().to(device), ends.get(f"{kernel} k={k}", origin).to(device)
        apart = {"to_average": training.distance(weights, average), "travelled": training.distance(average, origin)}
        rows.append({"start": start.step, "kernel": kernel, "k": k, "arm": arm, **worth(weights), **apart})
    return pd.DataFrame(rows)


def late_trips(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """EMA side-trips from several points before one end, which all of them share with the average."""
    images = datasets.load(settings.dataset)
    data, seed, branch = _batches(settings, images, device), point["seed"], point["branch"]
    ends, _ = training.load_tensor_file(parents[0] / f"branch-{branch}-ends.ckpt")
    worth = _worth(settings, images, data, device)

    def end_of(k: int):
        name = f"branch-{branch}-last-{k}.ckpt" if k < settings.longest else f"branch-{branch}.ckpt"
        start = _resumed(settings, seed, images, device, parents[0] / name)
        rate = equivalent_schedule(_schedule(settings), ema(k, settings.last_delta), start.step)
        return training.flat_weights(training.branch(start, data, rate, seed, MAIN, start.step + k).model)

    plan = [("raw", 0, lambda: ends[f"raw k={settings.longest}"]), ("average", settings.longest, lambda: ends["last"])]
    plan += [("side-trip", k, partial(end_of, k)) for k in settings.last_windows]
    rows = runs.kept_rows(folder)
    for arm, k, weights_of in pieces(plan[len(rows) :], lambda: runs.keep_rows(folder, rows)):
        rows.append({"k": k, "arm": arm, **worth(weights_of().to(device))})
    return pd.DataFrame(rows)


def _begun(settings: Settings, seed: int, images, device: str, checkpoints) -> tuple[training.State, np.ndarray]:
    """Where the main run begins or goes on, and the losses of the steps before."""
    state, at = _state(settings, seed, images, device), checkpoints.newest()
    if at is None:
        return state, np.empty(0)
    if any(start <= at < start + settings.longest for start in settings.starts):
        state = replace(state, averages=(KernelAverages(_kernels(settings), training.flat_weights(state.model)),))
    return checkpoints.load(at, state), checkpoints.records(at)["losses"]


def _stops(settings: Settings, begun: int) -> list[int]:
    """The steps after `begun` at which the main run leaves something behind, and every LOG_EVERY-th."""
    own = {start + k for start in settings.starts for k in (0, *_marks(settings), settings.longest)}
    return sorted(stop for stop in own | set(range(0, settings.steps, LOG_EVERY)) if stop > begun)


def _left_behind(state: training.State, settings: Settings, folder: Path) -> training.State:
    """Write what belongs to this step; the same state, with the averages that are open after it."""
    for branch, start in enumerate(settings.starts):
        k, name = state.step - start, f"branch-{branch}"
        if k in _marks(settings):
            training.save_tensor_file(folder / f"{name}-raw-{k}.ckpt", {"raw": training.flat_weights(state.model)})
        if settings.longest - k in settings.last_windows and 0 < k:
            training.save_state(folder / f"{name}-last-{settings.longest - k}.ckpt", replace(state, averages=()))
        if k == settings.longest:
            raw = {f"raw k={k}": folder / f"{name}-raw-{k}.ckpt" for k in _marks(settings)}
            ends = {name: training.load_tensor_file(path)[0]["raw"] for name, path in raw.items()}
            ends |= {name: state.averages[0][name] for name in _kernels(settings)}
            training.save_tensor_file(folder / f"{name}-ends.ckpt", ends)
            state = replace(state, averages=())
        if k == 0:
            training.save_state(folder / f"{name}.ckpt", state)
            averages = KernelAverages(_kernels(settings), training.flat_weights(state.model))
            state = replace(state, averages=(averages,))
    return state


def _plan(settings: Settings, start, data, ends: dict, seed: int) -> list[tuple[str, str, int, Callable]]:
    """(arm, kernel, k, what gives the weights) of every row of one branch point, in the order of the rows."""
    base, reached = _schedule(settings), {}

    def trip(name: str, stream: int, k: int):
        rate, origin = (equivalent_schedule(base, KERNELS[name](k), start.step) if name else base), start
        if name in ("two-point", ""):  # one rate for every window, so that each goes on from the end of the one before
            origin = reached.get((name, stream), start)
        end = reached[name, stream] = training.branch(origin, data, rate, seed, stream, start.step + k)
        return training.flat_weights(end.model)

    plan = [("start", "", 0, lambda: training.flat_weights(start.model))]
    marks = sorted({1, *settings.two_point, *settings.swa, *settings.ema})
    plan += [("raw", "", k, partial(ends.get, f"raw k={k}")) for k in marks]
    plan += [("average", n, k, partial(ends.get, f"{n} k={k}")) for n, k in [("two-point", 1), *windows(settings)]]
    for arm, stream, only in (("side-trip", MAIN, None), ("other-batches", OTHER, settings.controls)):
        for name, k in windows(settings):
            if only is None or k in only:
                plan.append((arm, name, k, partial(trip, name, stream, k)))
    return plan + [("constant-rate", "", k, partial(trip, "", OTHER, k)) for k in sorted(settings.controls)]


def windows(settings: Settings) -> list[tuple[str, int]]:
    """(kernel, k) of every window."""
    families = (("two-point", sorted(settings.two_point)), ("swa", settings.swa), ("ema", settings.ema))
    return [(name, k) for name, windows in families for k in windows]


def _kernels(settings: Settings) -> dict:
    """Kernels by the name their averages are saved under."""
    kernels = {f"{name} k={k}": KERNELS[name](k) for name, k in windows(settings)}
    kernels["two-point k=1"] = two_point(1)
    return kernels | {"last": ema(settings.longest, settings.last_delta)}


def _marks(settings: Settings) -> set[int]:
    """Steps after a branch point at which the main run leaves something behind."""
    late = {settings.longest - k for k in settings.last_windows if k < settings.longest}
    return {1, *settings.two_point, *settings.swa, *settings.ema} | late


def _schedule(settings: Settings) -> schedules.Schedule:
    return schedules.warmup(schedules.constant(settings.lr), settings.warmup)


def _batches(settings: Settings, images: datasets.Images, device: str) -> datasets.Batches:
    return datasets.Batches(
        images.train_x,
        images.train_y,
        settings.batch,
        images.classes,
        device,
        settings.pad,
        settings.flip,
        settings.pixel_noise,
        settings.label_noise,
    )


def _state(settings: Settings, seed: int, images: datasets.Images, device: str) -> training.State:
    model = network(settings, seed, images.train_x.shape[1:], images.classes, device).to(device)
    about = {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
    return training.State(model, SGD(model.parameters(), lr=settings.lr, fused=True, **about))


def _resumed(settings: Settings, seed: int, images: datasets.Images, device: str, path: Path) -> training.State:
    return training.load_state(path, _state(settings, seed, images, device))


def network(settings: Settings, seed: int, shape: tuple[int, ...], classes: int, device: str):
    """The settings' network with the weights of a seed, for images of this shape, (channels, height, width)."""
    half = settings.precision == "bfloat16" and runs.gains_by_bfloat16(device)
    match settings.model:
        case "mlp":
            return models.mlp(math.prod(shape), (settings.width, settings.width), classes, seed)
        case "resnet8":
            return models.resnet8(classes, seed, settings.width, settings.stem, half)
        case "resnet18":
            return models.resnet18(classes, seed, settings.stem, half)
        case "resnet34":
            return models.resnet34(classes, seed, settings.stem, half)


def _worth(settings: Settings, images: datasets.Images, data: datasets.Batches, device: str):
    """A function from weights to losses and accuracies, on images and BatchNorm batches that never change."""
    # The same images for every seed: comparisons are paired, and no seed has easier ones.
    if settings.noisy_draws:
        train = data.draws(0, DRAWS, settings.train_images)
    else:
        train = data.plain(images.train_x[: settings.train_images], images.train_y[: settings.train_images])
    test = data.plain(images.test_x, images.test_y)
    norm = data.resized(settings.norm_batch)
    batches = [norm.batch(0, NORM, step)[0] for step in range(settings.norm_batches)]
    model = network(settings, 0, images.train_x.shape[1:], images.classes, device).to(device)

    def worth(weights) -> dict[str, float]:
        training.load_flat(model, weights)
        recompute_batch_norm(model, batches)
        train_loss, train_top1 = training.evaluate(model, *train)
        test_loss, top1 = training.evaluate(model, *test)
        return {"train_loss": train_loss, "train_top1": train_top1, "test_loss": test_loss, "top1": top1}

    return worth
