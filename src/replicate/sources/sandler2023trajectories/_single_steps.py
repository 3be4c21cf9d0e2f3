"""From the draws of `figure_2` to one row a seed and cell: what claims on Figures 2, 12 and 13 are
judged on.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate.curvature import SingleStep, scale_of_drops

ARMS = ("mini-batch", "first half", "second half", "full-gradient", "all cells", "all sizes",
        "usual sizes")  # fmt: skip
NORM_OF_ALL = "batch"  # how BatchNorm normalises wherever all sizes are looked at
CELL = ["seed", "stage", "norm", "bs"]
PAPERS_SHARE = 0.8 / 1.8  # of the loss above a trained model's, at Figure 2's step: 1.8 and 1 nats
DROP_FLOOR = 1e-5  # nats; below it a drop is rounding
PARABOLIC = 0.95  # R2 from which on a curve counts as a parabola; TRAJ-01's band
TENTH = 0.1  # of the batch's own drop, up to which held-out ones gain little; TRAJ-03.drop's band
USUAL = (256, 512, 1024, 2048, 4096)  # "typical range (256-4096)" (Fig. 13)
DRAW_MEANS = ["minimiser", "start", "least", "critical", "rise", "convex", "cooled", "held_start",
         "held_least", "held_critical", "held_convex"]  # fmt: skip
OF_NOISE = ["batch", "squared_mean", "trace", "along_mean", "along_batch"]
METRICS = (
    *DRAW_MEANS, "drop", "held_drop", "fit", "held_fit", "least_90", "held_least_90", "drop_scale", "noise_scale",
    "noise_scale_elsewhere", "predicted_critical", "crossover", "share_parabolic", "share_held_parabolic", "share_unlike",
    "largest_ratio",
)  # fmt: skip


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row a seed and cell.

    Arms: "mini-batch", its draws at even and at odd places ("first half", "second half"), the
    largest size once more with no size ("full-gradient", to hold all sizes against), and what runs
    over sizes or over all cells. Columns are METRICS: means over draws; fits are medians, *_90 90th
    percentiles. above_cooled: share of the held-out loss above that of the cooled-down run, mean
    over seeds, to two digits. "late" is called "too early" where this is above PAPERS_SHARE.
    """
    draws = table[table.what == "draw"]
    rows = _describe_cells(draws)
    halves = [
        _describe_cells(draws[draws.draw % 2 == place]).assign(arm=arm)
        for place, arm in enumerate(ARMS[1:3])
    ]
    rows = rows.merge(_predict(table, rows), on=CELL, how="left")
    largest = rows[rows.bs == rows.bs.max()].assign(arm="full-gradient", bs=np.nan)
    cells = rows[rows.norm == NORM_OF_ALL]
    over = [_find_crossovers(cells), _find_usual(cells), _count_cells(cells)]
    table = pd.concat([rows, *halves, largest, *over], ignore_index=True)
    return _name_stages(table, cells).assign(branch=0)


def _describe_cells(draws: pd.DataFrame) -> pd.DataFrame:
    groups = draws.groupby(CELL)
    rows = groups[DRAW_MEANS].mean()
    rows["drop"] = (rows.start - rows.least).clip(lower=DROP_FLOOR)
    rows["held_drop"] = (rows.held_start - rows.held_least).clip(lower=DROP_FLOOR)
    rows[["fit", "held_fit"]] = groups[["fit", "held_fit"]].median()
    rows["least_90"] = groups.least.quantile(0.9)
    rows["held_least_90"] = groups.held_least.quantile(0.9)
    return rows.reset_index().assign(arm=ARMS[0])


def _predict(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """What noise and curvature say of every cell, and the scale that its drops say."""
    noise = table[table.what == "noise"].set_index(["seed", "stage"])[OF_NOISE]
    moments = {place: SingleStep(**row) for place, row in noise.to_dict("index").items()}
    stages = list(dict.fromkeys(noise.index.get_level_values("stage")))
    elsewhere = {stage: stages[place - 1] for place, stage in enumerate(stages)}
    predicted = rows[CELL].copy()
    at = [(row.seed, row.stage, row.bs) for row in rows.itertuples()]
    predicted["noise_scale"] = [moments[seed, stage].noise_scale for seed, stage, _ in at]
    predicted["noise_scale_elsewhere"] = [
        moments[seed, elsewhere[stage]].noise_scale for seed, stage, _ in at
    ]
    predicted["predicted_critical"] = [
        moments[seed, stage].critical_step(size) for seed, stage, size in at
    ]
    predicted["drop_scale"] = scale_of_drops(rows["drop"], rows.held_drop, rows.bs)
    return predicted.replace(np.inf, np.nan)


def _find_crossovers(rows: pd.DataFrame) -> pd.DataFrame:
    """The batch size at which the best step for itself begins to help held-out batches, on a line
    in log size; NaN where no pair of sizes has it between them.
    """
    crossings = []
    for place, cell in rows.groupby(["seed", "stage", "norm"]):
        cell = cell.sort_values("bs")
        size, rise = np.log(cell.bs.to_numpy(float)), cell.rise.to_numpy()
        falls = np.flatnonzero((rise[:-1] > 0) & (rise[1:] <= 0))
        crossing = np.nan
        if len(falls):
            i = falls[-1]
            weight = rise[i] / (rise[i] - rise[i + 1])
            crossing = float(np.exp(size[i] + weight * (size[i + 1] - size[i])))
        scales = cell[["noise_scale", "noise_scale_elsewhere"]].iloc[0]
        crossings.append([*place, crossing, *scales])
    columns = ["seed", "stage", "norm", "crossover", "noise_scale", "noise_scale_elsewhere"]
    return pd.DataFrame(crossings, columns=columns).assign(arm="all sizes")


def _find_usual(rows: pd.DataFrame) -> pd.DataFrame:
    """The largest held-out drop over the batch's own at the usual sizes; no rows without them all."""
    usual = rows[rows.bs.isin(USUAL)]
    if usual.bs.nunique() < len(USUAL):
        return rows.iloc[:0]
    ratio = (usual.held_drop / usual["drop"]).groupby([usual[name] for name in CELL[:3]]).max()
    return ratio.rename("largest_ratio").reset_index().assign(arm="usual sizes")


def _count_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares of cells, over stages and sizes, in which the claims of Figure 2 hold."""
    tells = rows[["seed", "norm"]].assign(
        share_parabolic=rows.fit >= PARABOLIC,
        share_held_parabolic=rows.held_fit >= PARABOLIC,
        share_unlike=(rows.rise > 0) & (rows.held_drop <= TENTH * rows["drop"]),
    )
    return tells.groupby(["seed", "norm"]).mean().reset_index().assign(arm="all cells")


def _name_stages(rows: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Rows with the share of loss above the cooled-down run's at their stage."""
    share = ((cells.held_start - cells.cooled) / cells.held_start).groupby(cells.stage).mean()
    late = rows.stage.eq("late") & (share.get("late", 0.0) > PAPERS_SHARE)
    rows = rows.assign(above_cooled=rows.stage.map(share.round(2)))
    return rows.assign(stage=rows.stage.mask(late, "too early"))
