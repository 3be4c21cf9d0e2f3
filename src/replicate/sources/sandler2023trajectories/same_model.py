"""Ours, on Table 1: whether an average and its side-trip are the same model, or only as good.

apart = mean over images of sum_c |p_c - q_c| / 2,      p, q: predicted probabilities of class c
calibration = sum over bins of (share of images in it) |mean of max_c p_c - share that is right|
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, training
from replicate.sources import images as kit
from replicate.sources.images import DRAWS, MAIN, OTHER
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.settings import Settings

ARMS = ("average", "raw", "side-trip", "other-batches")
CONFIDENCE_BINS = 15  # of equal width, as Guo et al. 2017 have them
IMAGES_AT_ONCE = 512  # bounds the memory


def window(settings: Settings) -> int:
    """The longest window of SWA in Figure 5."""
    return max(k for k in settings.swa if k <= max(_trips.TRIP_LOOKS))


def operations(settings: Settings) -> float:
    """Multiplications and additions of two side-trips and of what four points predict."""
    forward, _ = kit.operations_per_image(settings, settings.dataset)
    predicted = len(ARMS) * (settings.hessian_images + settings.norm_batches * settings.norm_batch)
    trips = _branches.count_training(settings, 2 * window(settings))
    return _trips.count_seeds(settings) * (trips + predicted * forward)


@experiment(
    fields={"arm": ARMS},
    metrics=("apart", "agreement", "calibration"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(33, "same loss, but the same model?")},
)
def same_model(settings: Settings) -> pd.DataFrame:
    """What four points predict on draws of the training distribution nobody trains on, beside what the
    average of the last window predicts.

    Columns: seed, arm, apart (total variation between the arm's probabilities and the average's, in
    [0, 1]), agreement (share of images on which both name one class), calibration (expected
    calibration error of the arm, in [0, 1]). Arms: average (SWA), raw (the window's end), side-trip
    and other-batches (Table 1's schedule on the main run's mini-batches and on others).
    """
    return _trips.run_each(compare_predictions, settings, after=_trips.run_main(settings)).table


def compare_predictions(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The four points of one seed."""
    main, start, ends = _trips.load_last_branch(settings, point["seed"], parents, device)
    k = window(settings)
    trip = averaging.equivalent_schedule(main.rate, averaging.swa(k), start.step)
    points = [ends[f"swa k={k}"], ends[f"raw k={k}"]]
    for stream in (MAIN, OTHER):
        points += [weights for _, weights in _trips.walk(main, start, trip, stream, [k])]
    images, labels = main.data.draws(0, DRAWS, settings.hessian_images)
    model = kit.network(settings, 0, main.images, device)
    norm = kit.norm_batches(main.data, settings.norm_batch, settings.norm_batches)
    predictions = [_predict(model, weights.to(device), norm, images) for weights in points]
    truth = labels.cpu().numpy()
    rows = [_describe(each, predictions[0], truth) for each in predictions]
    return pd.DataFrame(rows).assign(arm=ARMS)


def _predict(model, weights, norm: list, images) -> np.ndarray:
    """Probabilities, (n, classes) float64, BatchNorm re-estimated before."""
    training.load_flat(model, weights)
    averaging.recompute_batch_norm(model, norm)
    model.eval()
    outputs = [model(part).detach().double().softmax(1) for part in images.split(IMAGES_AT_ONCE)]
    return np.concatenate([each.cpu().numpy() for each in outputs])


def _describe(p: np.ndarray, q: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of predictions p beside q, (n, classes) each."""
    return {
        "apart": float(np.abs(p - q).sum(1).mean() / 2),
        "agreement": float((p.argmax(1) == q.argmax(1)).mean()),
        "calibration": _calibration_error(p, labels),
    }


def _calibration_error(p: np.ndarray, labels: np.ndarray) -> float:
    confidence = p.max(1)
    is_right = p.argmax(1) == labels
    place = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    excess = np.bincount(place, confidence - is_right, CONFIDENCE_BINS)
    return float(np.abs(excess).sum() / len(labels))
