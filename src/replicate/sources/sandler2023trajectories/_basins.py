"""From the lines of `figure_3` to one row a seed and arm: what claims on Figure 3 are judged on."""

from __future__ import annotations

import numpy as np
import pandas as pd

ARMS = ("training batch", "held out", "training batch, reordered units",
        "held out, reordered units", "other batches", "before the first step", "after three steps")  # fmt: skip
METRICS = ("after_three", "after_nine", "barrier", "rise", "rise_over_fall", "profile_distance")
UNIT = ["seed", "norm"]
LOSS_OF_ARM = {"training batch": "loss", "held out": "held"}


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row a seed, arm and way of BatchNorm; ratios are of means over trips and both descents.

    after_three, after_nine: loss after so many steps over that before. barrier: the largest height
    above the chord over steps, mean over trips, over the mean loss before. rise: held-out loss after
    nine steps less before, nats; rise_over_fall: the same over what training had gained since the
    start. profile_distance: mean distance of the batch's profile, less its mean, from the held-out
    one, over the scatter of held-out batches.
    """
    rows = []
    for unit, lines in table.groupby(UNIT):
        rows += [dict(zip(UNIT, unit, strict=True)) | row for row in _describe(lines)]
    return pd.DataFrame(rows).assign(branch=0)


def _describe(table: pd.DataFrame) -> list[dict]:
    """The rows of one seed."""
    descents = table[table.line == "descents"]
    ends = descents[descents.place.isin([0, 1])].groupby("steps")[["loss", "held"]].mean()
    rows = []
    for arm, column in LOSS_OF_ARM.items():
        of_steps = ends[column]
        ratios = {"after_three": of_steps[3] / of_steps[0], "after_nine": of_steps[9] / of_steps[0]}
        rows.append({"arm": arm, "barrier": _barrier(descents, column) / of_steps[0], **ratios})
        reordered = _barrier(table[table.line == "reordered units"], column)
        rows.append({"arm": f"{arm}, reordered units", "barrier": reordered / of_steps[0]})
    late = descents[descents.place == 0].groupby("steps").held.mean()
    at = table[table.line.isin(["other batches", "start"])].groupby("line").held.mean()
    fall = at["start"] - late[0]
    for arm, end in (("held out", late[9]), ("other batches", at["other batches"])):
        rise = {"rise": end - late[0], "rise_over_fall": (end - late[0]) / fall}
        rows.append({"arm": arm, **rise})
    for arm, steps in (("before the first step", 0), ("after three steps", 3)):
        distance = _profile_distance(descents[descents.steps == steps])
        rows.append({"arm": arm, "profile_distance": distance})
    return _merge(rows)


def _barrier(lines: pd.DataFrame, column: str) -> float:
    """The largest height above the chord over all steps, mean over trips."""
    heights = []
    for (trip, _), line in lines.groupby(["trip", "steps"]):
        line = line.sort_values("place")
        y, a = line[column].to_numpy(), line.place.to_numpy()
        heights.append((trip, (y - (1 - a) * y[0] - a * y[-1]).max()))
    return pd.DataFrame(heights, columns=["trip", "height"]).groupby("trip").height.max().mean()


def _profile_distance(lines: pd.DataFrame) -> float:
    """Mean over trips of the profiles' mean absolute distance over the held-out batches' scatter."""
    distances = []
    for _, line in lines.groupby("trip"):
        apart = (line.loss - line.loss.mean()) - (line.held - line.held.mean())
        distances.append(apart.abs().mean() / np.sqrt((line.scatter**2).mean()))
    return float(np.mean(distances))


def _merge(rows: list[dict]) -> list[dict]:
    """Rows of the same arm as one."""
    merged: dict[str, dict] = {}
    for row in rows:
        merged.setdefault(row["arm"], {}).update(row)
    return list(merged.values())
