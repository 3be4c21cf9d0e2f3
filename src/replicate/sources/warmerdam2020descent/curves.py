"""Figures 9 to 13: every method from the same start on the same rows, against gradients, forward passes and seconds.

The nets without ReLU are run on the second moments of (x, 1, y), of which alone their loss and gradient depend, in
float64; Figure 12 on its rows in float32.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, models, runs
from replicate.models.chain import chain
from replicate.sources.warmerdam2020descent import arms
from replicate.sources.warmerdam2020descent.settings import Settings
from replicate.streams import rng
from replicate.training import full_batch as loops

POINTS = 21  # of a budget
FLOOR, CEILING = -10.0, 2.0  # of the log loss
TARGETS = (-2, -4, -10)
STILL = -6.0  # rises of the log loss are counted above this
AXES = ("gradients", "forward-equivalents", "seconds")
TABLE = "table.parquet"
BY_ROWS = ("rows float32", "rows float64")
FORMS = {"ADAM": ("rows float64", "moments"), "KS_50_2 corrected": ("rows float64", "moments"),
         "KV_50 published": BY_ROWS, "KV_50 corrected": BY_ROWS}  # fmt: skip
ENLARGED = 10.0  # times the source's rate: SGD as the plainest step enlarger


def figure_9(settings: Settings) -> pd.DataFrame:
    """10K rows, 20 columns, deep linear net, rate 1e-3. Columns: see `curves`."""
    return curves(settings)


def figure_10(settings: Settings) -> pd.DataFrame:
    """Figure 9 at rate 1e-4. Columns: see `curves`."""
    return curves(settings)


def figure_11(settings: Settings) -> pd.DataFrame:
    """100K rows, 100 columns, width 20, rate 1e-4. Columns: see `curves`."""
    return curves(settings)


def figure_12(settings: Settings) -> pd.DataFrame:
    """100K rows, 10 columns, ReLU, rate 1e-4, on the rows themselves. Columns: see `curves`."""
    return curves(settings)


def figure_13(settings: Settings) -> pd.DataFrame:
    """100K rows, 100 columns, no hidden layer, rate 1e-4. Columns: see `curves`."""
    return curves(settings)


def curves(settings: Settings) -> pd.DataFrame:
    """Log losses at equal shares of a budget, one row a (seed, arm, rate, start, axis, share).

    Columns: seed, arm, rate ("source", "tuned" or "enlarged"), start ("source", or "orthogonal" without a plateau), lr,
    axis (one of AXES), share (of the axis's budget), loss (log10 of the mean squared error over that of the start),
    rises (sum of the rises of that), and `to -2`, ... (cost to a target, in the axis's unit; NaN where not reached).
    """
    parts = runs.each(seconds_of_parts, settings, [{"block": b} for b in range(settings.blocks)]).table
    clocks = parts.pivot(index="block", columns="part", values="seconds").to_dict("records")
    tuning = runs.each(tuned, settings, [{"method": a} for a in settings.tuned if a != "LBFGS"])
    traces = runs.each(traced, settings, [{"seed": s} for s in settings.seeds], after=tuning).table
    keys = ["seed", "arm", "rate", "start", "lr"]
    rows = []
    for key, part in traces.groupby(keys, sort=False):
        clock = clocks[settings.seeds.index(key[0]) % settings.blocks]  # so that intervals hold the clock's noise too
        one = arms.Trace(*(part[name].to_numpy() for name in ("loss", "gradients", "checks", "updates")))
        rows += [dict(zip(keys, key, strict=True)) | row for row in _against(one, key[1], settings, clock)]
    return pd.DataFrame(rows)


def rates(settings: Settings) -> pd.DataFrame:
    """Height against the rate, over six decades, and the tuning runs.

    Columns: seed, arm, lr, use ("sweep" or "tuning"), height (mean log loss over the budget in forward-equivalents).
    """
    tuning = runs.each(tuned, settings, [{"method": a} for a in settings.tuned if a != "LBFGS"]).table
    swept = runs.each(sweep, settings, [{"seed": s} for s in settings.sweep_seeds]).table
    return pd.concat([swept.assign(use="sweep"), tuning.drop(columns="method").assign(use="tuning")], ignore_index=True)


def forms(settings: Settings) -> pd.DataFrame:
    """The same runs by rows in single and in double precision and by moments. Columns: seed, arm, form, height."""
    return runs.each(formed, settings, [{"seed": s} for s in settings.sweep_seeds]).table


def seconds_of_parts(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Seconds of the parts of a training step in torch at full rows: columns part, seconds (median of repeats)."""
    x, y, model = printed(settings, point["block"])
    x, y = loops.tensors(x, y, device)
    found = loops.clock(model.to(device), x, y, settings.repeats)
    return pd.DataFrame([{"part": part, "seconds": float(np.median(values))} for part, values in found.items()])


def printed(settings: Settings, seed: int) -> tuple:
    """x (n, inputs), y and the model in torch as the printed function makes them; random images for a ResNet."""
    if settings.dataset == "resnet18":
        noise = rng(seed, "noise", 0)
        x = noise.standard_normal((settings.rows, 3, 32, 32)).astype(np.float32)
        return x, noise.integers(0, 10, settings.rows), models.resnet18(10, seed)
    rows = descent.rows(settings.rows, settings.columns, seed)
    return rows.x.T, rows.y[:, None], chain(settings.dims, seed, settings.activation)


def traced(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Every arm on one seed: columns arm, rate, start, lr, loss (as it is), gradients, checks, updates spent before."""
    seed, best = point["seed"], best_rates([runs.read_table(parent / TABLE) for parent in parents])
    task = made(settings, seed)
    parts = [_run(arm, "source", settings.lr, task, settings) for arm in settings.arms]
    parts += [_run(arm, "tuned", best.get(arm, settings.lr), task, settings) for arm in settings.tuned]
    if settings.activation == "linear":
        parts.append(_run("SGD", "enlarged", ENLARGED * settings.lr, task, settings))
        flat = arms.Task(task.loss, task.data, orthogonal(settings, seed))
        chosen = [a for a in settings.arms if a in ("SGD", "ADAM") or a.startswith("KS_50")]
        parts += [_run(arm, "source", settings.lr, flat, settings, "orthogonal") for arm in chosen]
    return pd.concat(parts, ignore_index=True)


def tuned(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """One arm on the tuning seeds at every rate of the grid: columns seed, arm, lr, height."""
    arm = point["method"]
    found = []
    for seed in settings.tuning_seeds:
        task = made(settings, seed, min(settings.rows, settings.tuning_rows))
        heights = [height(arm, task, lr, settings) for lr in settings.grid]
        found.append(pd.DataFrame({"seed": seed, "arm": arm, "lr": settings.grid, "height": heights}))
    return pd.concat(found, ignore_index=True)


def sweep(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Some arms at many rates on one seed: columns arm, lr, height."""
    task = made(settings, point["seed"])
    grid = [(arm, lr) for arm in settings.sweep_arms for lr in settings.sweep]
    return pd.DataFrame([{"arm": arm, "lr": lr, "height": height(arm, task, lr, settings)} for arm, lr in grid])


def formed(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Some arms on the same few rows in each form: columns arm, form, height."""
    seed, found = point["seed"], []
    by_moments, rows = made(settings, seed, settings.form_rows), noisy(settings, seed, settings.form_rows)
    for arm, forms_of in FORMS.items():
        for form in forms_of:
            loss, dtype = descent.rows_loss(net_of(settings)), form.removeprefix("rows ")
            task = by_moments if form == "moments" else arms.Task(loss, rows, by_moments.start, dtype)
            found.append({"arm": arm, "form": form, "height": height(arm, task, settings.lr, settings)})
    return pd.DataFrame(found)


def best_rates(tables: list[pd.DataFrame]) -> dict[str, float]:
    """The rate with the least mean height over the tuning seeds, of each arm."""
    means = pd.concat(tables).groupby(["arm", "lr"]).height.mean() if tables else pd.Series(dtype=float)
    return {arm: lr for arm, lr in means.groupby(level="arm").idxmin()} if len(means) else {}


def made(settings: Settings, seed: int, count: int | None = None) -> arms.Task:
    """The loss, data and start of a seed: by moments where the net is linear, else by rows in float32."""
    net, rows = net_of(settings), noisy(settings, seed, count or settings.rows)
    if settings.activation == "linear":
        return arms.Task(descent.moments_loss(net), descent.moments(rows), descent.initial_weights(net, seed))
    return arms.Task(descent.rows_loss(net), rows, descent.initial_weights(net, seed), "float32")


def noisy(settings: Settings, seed: int, count: int) -> descent.Rows:
    """x and y as the printed function makes them, (inputs, count) and (count,), with the settings' noise on y."""
    rows = descent.rows(count, settings.columns, seed)
    if not settings.noise:
        return rows
    return descent.Rows(rows.x, rows.y + settings.noise * rng(seed, "noise", 1000).standard_normal(count))


def net_of(settings: Settings) -> descent.Net:
    """The settings' net."""
    return descent.Net(settings.dims, settings.activation)


def orthogonal(settings: Settings, seed: int) -> np.ndarray:
    """Starting weights without a plateau, (P,): every map is a random isometry and every bias 0."""
    noise, parts = rng(seed, "init", 1000), []
    for inputs, outputs in zip(settings.dims, settings.dims[1:], strict=False):
        square = noise.standard_normal((max(inputs, outputs), min(inputs, outputs)))
        q, _ = np.linalg.qr(square)
        parts += [(q.T if outputs < inputs else q).reshape(outputs, inputs).ravel(), np.zeros(outputs)]
    return np.concatenate(parts)


def method_of(arm: str, settings: Settings):
    """The leaf's method of a name."""
    return arms.exact_search(settings.maps) if arm == "EXACT" else arms.METHODS[arm]


def height(arm: str, task: arms.Task, lr: float, settings: Settings) -> float:
    """Mean log loss over the budget in forward-equivalents."""
    one = arms.trace(arm, method_of(arm, settings), task, lr, settings.steps)
    cost, budget = arms.forward_equivalents(one), arms.PASSES * settings.steps
    return float(sampled(log_loss(one.losses), cost, budget).mean())


def log_loss(losses: np.ndarray) -> np.ndarray:
    """log10 of losses over the first, clipped to [FLOOR, CEILING]; from the first that is not finite on, CEILING."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logs = np.log10(np.maximum(losses / losses[0], 0.0))
    bad = ~np.isfinite(losses)
    logs[np.cumsum(bad) > 0] = CEILING
    return np.clip(logs, FLOOR, CEILING)


def sampled(logs: np.ndarray, cost: np.ndarray, budget: float) -> np.ndarray:
    """The newest loss that is paid for at POINTS equal shares of the budget, 0 and 1 included."""
    return logs[np.searchsorted(cost, np.linspace(0, budget, POINTS) * (1 + 1e-12), side="right") - 1]


def _run(arm: str, rate: str, lr: float, task: arms.Task, settings: Settings, start: str = "source") -> pd.DataFrame:
    one = arms.trace(arm, method_of(arm, settings), task, lr, settings.steps, settings.walk_gradients)
    counts = {"gradients": one.gradients, "checks": one.checks, "updates": one.updates}
    about = {"arm": arm, "rate": rate, "start": start, "lr": lr}
    return pd.DataFrame({"loss": one.losses, **counts}).assign(**about)


def _against(one: arms.Trace, arm: str, settings: Settings, clock: dict) -> Iterator[dict]:
    """The rows of one run on each axis."""
    logs = log_loss(one.losses)
    step = clock["forward"] + clock["backward"] + clock["adam"]
    axes = {
        "gradients": (one.gradients, settings.walk_gradients),
        "forward-equivalents": (arms.forward_equivalents(one), arms.PASSES * settings.steps),
        "seconds": (arms.seconds(arm, one, clock), step * settings.steps),
    }
    for axis, (cost, budget) in axes.items():
        about = {"axis": axis, "budget": float(budget), "rises": _rises(logs[cost <= budget])}
        about |= {f"to {target}": _to(target, logs, cost, budget) for target in TARGETS}
        for share, loss in zip(np.linspace(0, 1, POINTS), sampled(logs, cost, budget), strict=True):
            yield {**about, "share": round(share, 2), "loss": loss}


def _rises(logs: np.ndarray) -> float:
    """Sum of the rises between outer steps, until the log loss is first at STILL."""
    below = np.flatnonzero(logs <= STILL)
    return float(np.maximum(np.diff(logs[: below[0] + 1] if len(below) else logs), 0).sum())


def _to(target: float, logs: np.ndarray, cost: np.ndarray, budget: float) -> float:
    reached = np.flatnonzero((logs <= target) & (cost <= budget))
    return float(cost[reached[0]]) if len(reached) else np.nan
