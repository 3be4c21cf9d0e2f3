"""Random walks, one run a seed."""

from pathlib import Path

import pandas as pd
from replicate.sources.walks2026toy.settings import Settings

from replicate import runs
from replicate.progress import pieces
from replicate.sources.protocol import experiment
from replicate.streams import rng


@experiment(metrics=("place",), datasets=("plane",))
def walk(settings: Settings) -> pd.DataFrame:
    """Columns seed, step, place."""
    return runs.each(walk_run, settings, [{"seed": seed} for seed in settings.seeds]).table


def walk_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One walk, whose lives are noted in the file `lives`: the step that each began at."""
    import time

    rows = runs.kept_rows(folder)
    with (folder / "lives").open("a") as file:
        file.write(f"{len(rows)}\n")
    for step in pieces(range(len(rows), settings.steps), lambda: runs.keep_rows(folder, rows)):
        time.sleep(settings.pause)
        before = rows[-1]["place"] if rows else 0.0
        rows.append({"step": step, "place": before + rng(point["seed"], "init", step).normal()})
    return pd.DataFrame(rows)
