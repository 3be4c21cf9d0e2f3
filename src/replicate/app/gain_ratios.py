"""Why data sets differ: how much of an average's gain its side-trip has, foretold and measured, from
data/results/.

    ratio = mean(raw - side-trip) / mean(raw - average)     losses of one window, means over seeds

`spectrum` foretells it from curvature and noise of that data set alone; `figure_5` measures it.
"""

from collections.abc import Iterator

import pandas as pd

from replicate import claims, runs
from replicate.app import registry
from replicate.sources.protocol import Source

SOURCE_OF_SPECTRA = "sandler2023trajectories"
KERNEL_AND_K = ["kernel", "k"]
WHY_DATA_SETS_DIFFER = """\
### Why: curvature and noise of each data set

Half of these rows ask how much of an average's gain in loss its side-trip has. Below, that share as it follows from
the curvature and the gradient noise measured on each data set, nothing fitted (`BEYOND-spectrum`), and in brackets
as it was measured. That digits and CIFAR-10 differ over 10 steps is foretold: the rate times the largest curvature
is several times as large on CIFAR-10, so gradients change within the window. Over 300 steps and more the side-trip
gains more on CIFAR-10 than is foretold: the run still descends there, which a side-trip goes on with and an average,
whose weights are half a window old, does not.
"""


def render() -> str:
    """The table in Markdown, a line a kernel and window; empty where no spectrum is recorded."""
    rows = pd.DataFrame(_compare(registry.source(SOURCE_OF_SPECTRA)))
    if rows.empty:
        return ""
    data_sets = list(rows.dataset.unique())
    rows = rows.sort_values(KERNEL_AND_K)
    lines = [f"| kernel | k | {' | '.join(data_sets)} |", "|---" * (2 + len(data_sets)) + "|"]
    for (kernel, k), window in rows.groupby(KERNEL_AND_K, sort=False):
        shares = window.set_index("dataset")
        cells = [_tell(shares.loc[each]) if each in shares.index else "" for each in data_sets]
        lines.append(f"| {kernel} | {k:g} | {' | '.join(cells)} |")
    return "\n".join([WHY_DATA_SETS_DIFFER, *lines])


def _tell(row: pd.Series) -> str:
    return f"{row.foretold:.2f} ({row.measured:.2f})"


def _compare(source: Source) -> Iterator[dict]:
    """Rows dataset, kernel, k, foretold, measured, of every recorded spectrum."""
    for preset in claims.PRESETS:
        spectra, runs_of_5 = (
            runs.load_recorded(source[name], preset) for name in ("spectrum", "figure_5")
        )
        if spectra.empty or runs_of_5.empty:
            continue
        foretold = spectra.assign(arm=spectra.arm.str.removeprefix("predicted "))
        for dataset, rows in foretold.groupby("dataset"):
            measured = compare_gains(runs_of_5[runs_of_5.dataset == dataset])
            predicted = compare_gains(rows)
            for window in predicted.index.intersection(measured.index):
                yield dict(zip(KERNEL_AND_K, window, strict=True)) | {
                    "dataset": dataset, "foretold": predicted[window], "measured": measured[window],
                }  # fmt: skip


def compare_gains(table: pd.DataFrame) -> pd.Series:
    """(kernel, k) -> the side-trip's gain in training loss over the average's; table: one data set's
    rows of arms "raw", "average" and "side-trip".

    A raw end is of its window where it has one, else of every window.
    """
    losses = {arm: rows.train_loss for arm, rows in table.set_index(KERNEL_AND_K).groupby("arm")}
    means = {
        arm: losses[arm].groupby(level=KERNEL_AND_K).mean() for arm in ("average", "side-trip")
    }
    raw = losses["raw"]
    by_window = raw.groupby(level="k").mean()
    base = means["average"].index.get_level_values("k").map(by_window).to_numpy(dtype=float)
    base = base if raw.index.get_level_values("k").notna().all() else float(raw.mean())
    gains = {arm: base - mean.reindex(means["average"].index) for arm, mean in means.items()}
    return (gains["side-trip"] / gains["average"]).dropna()
