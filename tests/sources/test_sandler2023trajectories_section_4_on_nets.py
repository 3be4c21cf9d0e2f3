"""Section 2 and section 4 on a network, each against a dull loop: sparse averages, noise at the
optimum, the radius by rate, where a cosine ends.
"""

import dull_trajectories as dull
import numpy as np
import pandas as pd
import pytest
from dull_trajectories import LAST, NET, SEED

from replicate import datasets
from replicate.sources.protocol import Source
from replicate.sources.sandler2023trajectories import (
    _branches,
    _hessian,
    cosine_end,
    noise_at_optimum,
    radius_by_rate,
    sparse_averages,
)
from replicate.sources.sandler2023trajectories.presets import PRESETS
from replicate.training import load_tensor_file

SOURCE = Source("sandler2023trajectories")
LONG = 30  # the longest window


@pytest.fixture(scope="module")
def images():
    return dull.coloured()


@pytest.fixture(autouse=True)
def three_channels(monkeypatch, images):
    monkeypatch.setattr(datasets, "load", lambda name: images)


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Where the main run left its states."""
    return dull.leave_states(NET, images, tmp_path_factory.mktemp("main"))


@pytest.fixture(scope="module")
def plain(images):
    """theta after LAST steps, its momenta, and the path over the last window, by a dull loop."""
    data, model = dull.batches(images), dull.net(images)
    momenta = [0 * p.detach() for p in model.parameters()]
    origin = dull.walk(data, model, dull.main_rate, LAST, momenta=momenta)[-1]
    kept = [v.clone() for v in momenta]
    path = dull.walk(data, model, dull.main_rate, LONG, momenta=momenta, start=LAST)
    return origin, kept, path


def test_sparse_averages_are_those_of_a_dull_loop(images, folder, plain, monkeypatch):
    monkeypatch.setattr(sparse_averages, "STRIDES_TRIED", (2, 3))
    rows = sparse_averages.average_sparsely(NET, {"seed": SEED}, folder, [folder], "cpu")
    table, (_, _, path) = dull.rows_by(rows, "k", "c", "arm"), plain
    for c in (2, 3):
        points = {
            "sparse": sum(path[t] for t in range(c, LONG + 1, c)) / (LONG // c),
            "every step": sum(path[1:]) / LONG,
            "last tenth": sum(path[28:]) / 3,
            "raw": path[-1],
        }
        for arm, weights in points.items():
            row = table.pop((LONG, c, arm))
            dull.agrees(row, dull.measure(images, weights), ("train_loss", "test_loss", "top1"))
    assert not table


def test_a_sparse_average_ends_with_the_window():
    np.testing.assert_allclose(sparse_averages.sparse(7, 3), [0, 1 / 3, 0, 0, 1 / 3, 0, 0, 1 / 3])
    assert sparse_averages.windows(PRESETS["cpu"]["digits"]) == {100: [10], 1000: [10, 100]}
    assert sparse_averages.windows(NET) == {} and SOURCE["sparse_averages"](NET).empty


def test_cosines_are_those_of_gradients_of_a_dull_loop(images, folder, plain, monkeypatch):
    monkeypatch.setattr(noise_at_optimum, "FRESH_BATCHES", 4)
    rows = noise_at_optimum.compare_noise(NET, {"seed": SEED}, folder, [folder], "cpu")
    (_, _, path), data, model = plain, dull.batches(images), dull.net(images, 0)
    optimum = sum(path[1:]) / LONG
    away = (path[15] - optimum).numpy()
    places = {"fresh batches": [(300, step) for step in range(4)],
              "recent batches": [(0, LAST + 5 + i) for i in range(10)]}  # fmt: skip
    for arm, chosen in places.items():
        cosines = []
        for stream, step in chosen:
            g, _ = dull.gradient(model, optimum, data.batch(SEED, stream, step))
            cosines.append(g @ away / np.sqrt((g @ g) * (away @ away)))
        assert rows.set_index("arm").cosine[arm] == pytest.approx(np.mean(cosines), abs=2e-3)
    assert len(rows) == 2 and abs(rows.cosine[0] - rows.cosine[1]) > 0.01


def test_radii_are_those_of_a_dull_loop(images, folder, plain, monkeypatch):
    monkeypatch.setattr(radius_by_rate, "RATE_FACTORS", (0.25,))
    rows = radius_by_rate.follow_rates(NET, {"seed": SEED}, folder, [folder], "cpu")
    radii = rows.set_index(["arm", "factor"]).radius
    main = _branches.Main.load(NET, SEED, "cpu")
    middle = load_tensor_file(folder / "branch-1-ends.ckpt")[0]["swa k=30"].float()
    steep = _hessian.find_directions(main, middle, NET.directions).vectors[:2].double()
    (origin, kept, _), data, model = plain, dull.batches(images), dull.net(images)
    dull.fill(model, origin)
    path = dull.walk(data, model, lambda step: NET.lr / 4, 2 * LONG, lambda step: 1,
                     momenta=[v.clone() for v in kept], start=LAST)  # fmt: skip
    along = np.array([(steep @ weights).numpy() for weights in path[LONG + 1 :]])
    # At a faster rate rounding, which no two processors share, grows within these steps to percents.
    assert radii["steep", 0.25] == pytest.approx(np.sqrt(along.var(0).sum()), rel=1e-4)
    # Two of so many random directions have about their share of the variance.
    total = np.array([weights.numpy() for weights in path[LONG + 1 :]]).var(0).sum()
    share = radii["random", 0.25] ** 2 / (2 * total / len(middle))
    assert 0.1 < share < 5 and len(rows) == 2 and radius_by_rate.window(NET) == LONG


def test_slopes_are_the_exponents_of_the_radius():
    rows = [{"dataset": "digits", "seed": seed, "arm": arm, "factor": f, "radius": (2 + seed) * f**power}
            for seed in (0, 1) for arm, power in (("steep", 0.5), ("random", 1.2)) for f in (0.25, 0.5, 1.0, 2.0)]  # fmt: skip
    slopes = radius_by_rate.derive(pd.DataFrame(rows)).set_index(["seed", "arm"]).slope
    np.testing.assert_allclose(slopes.unstack("arm"), [[1.2, 0.5], [1.2, 0.5]])


def test_ends_are_those_of_a_dull_loop(images, folder, plain, tmp_path):
    (row,) = cosine_end.see_end(NET, {"seed": SEED}, tmp_path, [folder], "cpu").to_dict("records")
    _, _, path = plain
    assert dull.error(row, dull.measure(images, path[-1]), cosine_end.METRICS) < 1e-3
    assert dull.error(row, dull.measure(images, path[-2]), cosine_end.METRICS) > 1e-3


def test_a_label_that_nothing_filled_in_costs_no_row():
    rows = [
        {"seed": 0, "arm": "steep", "note": None, "factor": f, "radius": f**0.5} for f in (1, 2, 4)
    ]
    derived = radius_by_rate.derive(pd.DataFrame(rows))
    assert derived.slope.tolist() == pytest.approx([0.5])
