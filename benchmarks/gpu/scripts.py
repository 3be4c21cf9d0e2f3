"""Goals G1 and G4: whole scripts, input included, against ours.

Image by image with a loader's workers, and an epoch at a time on the device.
"""

from pathlib import Path

import pandas as pd

from benchmarks import goals, peers
from benchmarks.gpu._jobs import build, clock_steps, count_script_operations, make_ours, take
from benchmarks.gpu.settings import FULL, Settings
from benchmarks.harness import Row, make_frame
from benchmarks.inputs import draw_images
from replicate import runs
from replicate.sources.protocol import Evidence, experiment

PER_IMAGE = "image by image, float32"
PER_EPOCH = "an epoch at a time, bfloat16"
KEYS = {(PER_IMAGE, 128): "G1", (PER_EPOCH, 128): "G4 b128", (PER_EPOCH, 1024): "G4 b1024"}


@experiment(evidence={"synthetic": Evidence(98, "G1, G4")}, operations=count_script_operations)
def scripts(settings: Settings) -> pd.DataFrame:
    """Every batch size. Columns: those of `harness.COLUMNS`, and batch."""
    grid = [{"batch": size} for size in settings.script_batches]
    return runs.each(measure_script, settings, grid).table


def measure_script(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One batch size; a round is an epoch of so many steps, so that what begins one is in it."""
    name = settings.large[0]
    size = point["batch"]
    x, y = draw_images(min(settings.images, size * settings.epoch))
    loader = peers.load_batches(x, y, size, settings.workers, device)
    augmented = peers.augment_on_device(x, y, size, device)
    plain = peers.Contiguous(name).to(device)
    half = build(name, half=True).to(device)
    jobs = {
        PER_IMAGE: take(peers.train_eagerly(plain, loader, 2)),
        PER_EPOCH: take(peers.train_eagerly(half, augmented, 0)),
        "ours": make_ours(name, settings, size, device, len(x)),
    }
    for job in jobs.values():
        job(1)
    seconds = clock_steps(jobs, len(x) // size, settings.rounds, device)
    is_stated = name == FULL.large[0]
    rows = []
    for peer in (PER_IMAGE, PER_EPOCH):
        key = KEYS.get((peer, size), "")
        ratio = seconds[peer] / seconds["ours"]
        key = goals.choose(key, is_stated) if key else ""
        rows.append(Row(key, f"{name} b{size}: {peer} over ours", "ratio", ratio))
    return make_frame(rows)
