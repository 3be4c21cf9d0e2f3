"""A small source for the tests of claims: one experiment on made numbers, and a claims file of one
row.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from replicate import claims
from replicate.sources.protocol import Experiment

ROW = """[[claim]]
id = "A-1"
origin = "source"
where = "Table 1, row 2"
quote = "the same loss"
statement = "A side-trip gains what the average gains."
kind = "equivalence"
family = "Table 1"
experiment = "figure_1"
contrast = {name = "ratio of gains", metric = "loss", arms = ["trip", "average"], base = "raw", \
where = {kernel = "swa"}}
unit = "ratio"
at_least = 0.8
at_most = 1.25
margin = "ours"
control = {what = "constant-rate", arms = ["constant", "average"]}
controls.other = {arms = ["other", "average"]}
secondary.accuracy = {metric = "top1", control = {arms = ["other", "average"]}}
needs = "cpu"
primary.cpu = {dataset = "digits", kernel = "swa", k = 100}
"""


@dataclass(frozen=True)
class Settings:
    """What the experiment of the tests is told."""

    windows: tuple[int, ...] = (1, 10, 100)


def figure_1(settings: Settings) -> pd.DataFrame:
    """Nothing is run in these tests."""
    raise AssertionError("no test of claims runs an experiment")


FIGURE_1 = Experiment(
    figure_1,
    fields={
        "arm": ("trip", "average", "raw", "start", "constant", "other"),
        "kernel": ("swa", "ema"),
        "k": lambda settings: set(settings.windows),
        "rate": float,
        "note": str,
    },
    metrics=("loss", "top1", "seconds", "length"),
    datasets=("digits", "cifar10"),
)
EXPERIMENTS = {"figure_1": FIGURE_1}
PRESETS = {
    "smoke": {"digits": Settings((1, 10))},
    "cpu": {"digits": Settings(), "cifar10": Settings((10, 1000))},
    "gpu": {"cifar10": Settings(), "other-set": Settings((7,))},
    "paper": {},
}


def changed(before: str, after: str, text: str = ROW) -> str:
    """A claims file with one passage replaced, which must stand there once."""
    if text.count(before) != 1:
        raise ValueError(f"{before!r} must stand once in the file, got {text.count(before)}")
    return text.replace(before, after)


def checked(folder: Path, text: str | bytes) -> list[claims.Claim]:
    """The claims of a file, every name in them checked."""
    (folder / "someone2020.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    rows = claims.load(folder, "someone2020")
    claims.check(rows, "someone2020.toml", EXPERIMENTS, PRESETS)
    return rows


def claim(name: str = "A-1", **changes) -> claims.Claim:
    """A claim as the file above has it, with some fields changed."""
    fields = {
        "id": name, "origin": "source", "where": "Table 1, row 2", "statement": "they are equal",
        "kind": "equivalence", "family": "Table 1", "experiment": "figure_1", "unit": "ratio", "needs": "cpu",
        "contrast": {"name": "ratio of gains", "metric": "loss", "arms": ["trip", "average"], "base": "raw"},
        "at_least": 0.8, "at_most": 1.25, "primary": {"cpu": {"dataset": "digits", "k": 100}},
    }  # fmt: skip
    return claims.Claim(**fields | changes)
