"""A record of the trajectories' figure_5, made from a formula: what tests of the composing layer
read and judge.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs
from replicate.app import registry
from replicate.runs.tables import write_table

SOURCE = "sandler2023trajectories"
GPU, COMMIT = "a GPU of a test", "0123456789ab"
FILE = f"{SOURCE}-figure_5.parquet"


def figure_5(
    seeds: int = 6, branches: int = 8, dataset: str = "cifar10", gain: float = 1.0
) -> pd.DataFrame:
    """A side-trip gains what its average gains (times `gain`), and a constant rate nothing."""
    arms = [
        ("start", "", 0, 0.0),
        ("raw", "", 1, 0.0),
        ("raw", "", 1000, 0.0),
        ("average", "two-point", 1, 0.001),
    ]
    arms.append(("constant-rate", "", 1000, 0.0))
    for kernel, level in (("two-point", 0.1), ("swa", 0.2), ("ema", 0.15)):
        arms += [("average", kernel, 1000, level)]
        arms += [(arm, kernel, 1000, gain * level) for arm in ("side-trip", "other-batches")]
    noise, rows = np.random.Generator(np.random.Philox(0)), []
    for seed in range(seeds):
        for branch in range(branches):
            for arm, kernel, k, level in arms:
                loss = 0.5 - level + 1e-4 * noise.standard_normal()
                row = {
                    "seed": seed,
                    "branch": branch,
                    "start": 0,
                    "arm": arm,
                    "kernel": kernel,
                    "k": k,
                }
                row |= {
                    "train_loss": loss,
                    "train_top1": 1 - loss,
                    "test_loss": loss,
                    "top1": 1 - loss,
                }
                rows.append(row | {"to_average": 0.1, "travelled": 1.0})
    return pd.DataFrame(rows).assign(dataset=dataset, commit=COMMIT, device=GPU, key="k1")


def write_record(path: Path, preset: str = "gpu", dataset: str = "cifar10", **made) -> Path:
    """The record as `run --out` would write it at a preset, by code that is not today's."""
    settings = registry.source(SOURCE).presets[preset][dataset]
    identified = {
        "settings": json.loads(json.dumps(asdict(settings))), "code": "c0de" * 4,
        "found_by_folder": runs.list_found_by_folder(settings), "numerics": {"device": GPU},
    }  # fmt: skip
    key = runs.key_of(*identified.values())
    record = identified | {
        "source": SOURCE, "experiment": "figure_5", "key": key, "dirty": False, "commit": COMMIT, "device": GPU,
        "versions": {"torch": "2.13.0"}, "seconds": 1.5, "written": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = figure_5(dataset=dataset, **made).assign(key=key)
    write_table(path, rows, {"preset": preset, "records": {key: record}})
    return path
