"""What a stage of evidence will decide, how surely, and how long it takes on this machine.

Hours are its operations over the rate of its own training loop, which is measured on the spot with
random data, on as many cores at once as seeds go side by side: they share caches and memory, so one
alone is up to a tenth faster. Power is that of each row at its planned seeds, by mean and spread of
the newest pilot: what is recorded at this preset, with seeds that are still missing, else at a
smaller one.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from types import SimpleNamespace

import joblib
import numpy as np

from replicate import claims, datasets, numerics, optim, runs, streams, training
from replicate.app import registry, verdicts
from replicate.app.stages import Cost, Stage, in_words
from replicate.claims import Claim
from replicate.sources import images as kit
from replicate.sources.protocol import Experiment
from replicate.sources.settings import ImageSettings

TIMED_STEPS = 3
UNREAD_RATE = 1e-3  # learning rate of these steps, whose losses nobody reads
RANDOM_BATCHES = 2  # of images that these steps see


def find_decided(stage: Stage) -> list[Claim]:
    """The claims that have their primary case on the stage's table at its preset."""
    return [
        claim
        for claim in registry.claims_of(registry.source(stage.source))
        if stage.experiment.name in claim.experiments
        and stage.entry in _entries(claim.primary.get(stage.preset, {}))
    ]


def _entries(case: dict) -> list[str]:
    """The data sets of a case, several if the contrast runs along them."""
    entry = case.get("dataset", [])
    return entry if isinstance(entry, list) else [entry]


def estimate_cost(stage: Stage, device: str) -> Cost | None:
    """What is left of a stage; None where its experiment does not count its operations."""
    if stage.experiment.operations is None:
        return None
    (settings,) = stage.remaining.values()
    count = stage.experiment.operations(settings) / len(settings.seeds)
    seconds = count / measure_rate(stage.experiment, settings, device)
    return Cost(seconds * math.ceil(len(settings.seeds) / runs.jobs()), seconds)


def measure_rate(experiment: Experiment, settings, device: str) -> float:
    """Multiplications and additions a second of an experiment's training loop on one core, the others
    as busy as they will be, or on the GPU. Settings that train the same network on the same images
    are measured once.
    """
    if experiment.timed_step:
        return _measure_rate(experiment.timed_step, settings, device)
    names = (*(field.name for field in fields(ImageSettings)), "dataset", "batch")
    values = tuple((name, getattr(settings, name)) for name in names)
    return _measure_rate(_make_image_step, values, device)


@functools.lru_cache(maxsize=None)
def _measure_rate(make_step: Callable, settings, device: str) -> float:
    """The lowest of the loops that run side by side."""
    jobs = 1 if device == "cuda" else runs.jobs()
    with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        loop = joblib.delayed(_measure_loop)
        return min(joblib.Parallel()(loop(make_step, settings, device) for _ in range(jobs)))


def _measure_loop(make_step: Callable, settings, device: str) -> float:
    step, operations = make_step(settings, device)
    with numerics.one_thread():
        seconds = np.median(numerics.clock({"step": step}, TIMED_STEPS, device)["step"])
    return operations / seconds


def _make_image_step(values: tuple[tuple[str, object], ...], device: str) -> tuple[Callable, float]:
    """A step on random images, and its operations. values: of the settings, by name."""
    settings = SimpleNamespace(**dict(values))
    state, data = _training(settings, datasets.describe(settings.dataset), device)

    def step() -> None:
        nonlocal state
        state, _ = training.advance(state, data, lambda _: UNREAD_RATE, 0, kit.MAIN, state.step + 1)

    return step, settings.batch * kit.operations_per_image(settings, settings.dataset)[1]


def _training(settings, described, device: str):
    """The network's state, and mini-batches of random images of the data set's shape."""
    channels, height, width = described.shape
    count = RANDOM_BATCHES * settings.batch
    pixels = streams.rng(0, "init", 0).integers(256, size=(count, height, width, channels))
    labels = np.arange(count) % described.classes
    data = datasets.Batches(
        pixels.astype(np.uint8), labels, settings.batch, described.classes, device, settings.pad,
        settings.flip, settings.pixel_noise, settings.label_noise,
    )  # fmt: skip
    model = kit.build(settings, 0, described.shape, described.classes, device).to(device)
    return training.State(model, optim.SGD(model.parameters(), lr=UNREAD_RATE)), data


def tell_power(stage: Stage, claim: Claim) -> str:
    """The power of a claim's row at the stage's seeds, and the pilot it comes from."""
    (settings,) = stage.settings.values()
    n = stage.experiment.units(settings)
    for row, preset in _find_pilots(stage, claim):
        spread = claims.spread_of(row)
        if spread > 0:
            band = (row["at_least"], row["at_most"])
            power = claims.power(row["value"], spread, n, claim.kind, band)
            return f"power {power:.2f}, by {row['n']:.0f} seeds at {preset}: {row['case']}"
    return "no pilot with a spread"


def _find_pilots(stage: Stage, claim: Claim) -> Iterator[tuple[dict, str]]:
    """(row, preset) of the claim's primary case at this preset, then at those below it."""
    for preset in reversed(claims.PRESETS[: claims.PRESETS.index(stage.preset) + 1]):
        rows = _read_written(stage.source, preset)
        rows = rows[(rows.claim == claim.id) & (rows.role == "primary")]
        for row in rows[rows.verdict != "not tested"].to_dict("records"):
            yield row, preset


@functools.lru_cache(maxsize=None)
def _read_written(source: str, preset: str):
    return verdicts.read_written(registry.source(source), preset)


def table(stages: Iterable[Stage], device: str) -> str:
    """Of each stage a line, what is left of it and how long that takes, and one for each row that it
    decides.
    """
    lines = [
        f"hours on {runs.device_name(device)}, {runs.jobs()} seeds side by side, by training steps "
        "measured now; power before Holm's correction"
    ]
    for number, stage in enumerate(stages, 1):
        lines.append(f"{number:3}  {stage.name:48}{_tell_left(stage, device):36}{stage.why}")
        lines += [f"     {_tell_claim(stage, claim)}" for claim in find_decided(stage)]
    return "\n".join(lines)


def _tell_left(stage: Stage, device: str) -> str:
    if stage.done:
        return "done"
    (settings,) = stage.settings.values()
    planned = len(settings.seeds)
    cost = estimate_cost(stage, device)
    hours = "not counted" if cost is None else in_words(cost.seconds)
    absent = "" if datasets.at_hand(settings.dataset) else f", no {settings.dataset} here"
    return f"{stage.count_remaining()} of {planned} seeds left, {hours}{absent}"


def _tell_claim(stage: Stage, claim: Claim) -> str:
    others = [name for name in claim.experiments if name != stage.experiment.name]
    beside = f", with {', '.join(others)}" if others else ""
    return f"{claim.id + beside:48}{tell_power(stage, claim)}"
