"""The spectrum against a dense Hessian and gradients that are kept, predictions against drawn paths,
and the slope on tables that are known.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from replicate import averaging, claims, problems
from replicate.claims import Decided
from replicate.sources.protocol import Source
from replicate.sources.sandler2023trajectories import _branches
from replicate.sources.sandler2023trajectories import spectrum as module
from replicate.sources.sandler2023trajectories.presets import PRESETS, tiny
from replicate.training import Flat, load_tensor_file

SOURCE = Source("sandler2023trajectories")
SPECTRUM = SOURCE["spectrum"]
SETTINGS = replace(
    tiny(PRESETS["cpu"]["digits"]), swa=(2, 300), two_point=(2, 300), ema=(2, 300), branch_every=300,
    first_branch=500, directions=60, hessian_images=512, noise_gradients=200, lr=0.1, momentum=0.5, last_windows=(), branches=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A main run of a tiny net on digits, and where it left its states."""
    at = tmp_path_factory.mktemp("main")
    _branches.main_run(SETTINGS, {"seed": 0}, at, [], "cpu")
    return at


@pytest.fixture(scope="module")
def rows(folder):
    return module.measure_spectrum(SETTINGS, {"seed": 0}, folder, [folder], "cpu")


@pytest.fixture(scope="module")
def dense(folder):
    """Gradient and Hessian at the same average, by autograd on a double-precision copy."""
    main = _branches.Main.load(SETTINGS, 0, "cpu")
    minimum = load_tensor_file(folder / "branch-0-ends.ckpt")[0]["swa k=300"].double()
    model = Flat(main.state().model.double())
    images, labels = main.data.draws(0, module.DRAWS, SETTINGS.hessian_images)

    def loss(weights, x=images.double(), y=labels):
        return functional.cross_entropy(model.at(weights, x), y)

    return main, minimum, loss


@pytest.fixture(scope="module")
def directions(dense):
    main, minimum, _ = dense
    return module._find_directions(main, minimum.float())


def test_curvatures_are_those_of_the_dense_hessian(rows, dense):
    _, minimum, loss = dense
    hessian = torch.autograd.functional.hessian(loss, minimum)
    curvatures = rows[rows.what == "direction"].curvature
    values = torch.linalg.eigvalsh(hessian).flip(0)
    np.testing.assert_allclose(curvatures.head(8), values[:8], rtol=1e-3)
    assert curvatures.min() == pytest.approx(float(values[-1]), rel=0.05)


def test_noise_along_the_directions_is_that_of_gradients_that_are_kept(rows, dense, directions):
    main, minimum, loss = dense
    kept = []
    for step in range(SETTINGS.noise_gradients):
        images, labels = main.data.batch(0, module.NOISE, step)
        point = minimum.clone().requires_grad_()
        kept.append(torch.autograd.grad(loss(point, images.double(), labels), point)[0])
    expected = (torch.stack(kept) @ directions.vectors.double().T).var(0).numpy()
    np.testing.assert_allclose(rows[rows.what == "direction"].noise, expected, rtol=1e-3)


def test_the_variance_is_that_of_the_main_run_along_a_direction(rows, folder, dense, directions):
    """Trained once more by a plain loop of torch's SGD, from the state that was left."""
    main, _, _ = dense
    state = main.resume(folder / "branch-0.ckpt")
    optimizer = torch.optim.SGD(
        state.model.parameters(), lr=SETTINGS.lr, momentum=SETTINGS.momentum
    )
    optimizer.load_state_dict(state.optimizer.state_dict())
    along = []
    for step in range(state.step, state.step + SETTINGS.longest):
        images, labels = main.data.batch(0, module.MAIN, step)
        optimizer.zero_grad()
        functional.cross_entropy(state.model(images), labels).backward()
        optimizer.step()
        weights = torch.cat([p.detach().reshape(-1) for p in state.model.parameters()])
        along.append((directions.vectors @ weights).numpy())
    expected = np.var(np.array(along, dtype=np.float64), axis=0)
    np.testing.assert_allclose(rows[rows.what == "direction"].variance, expected, rtol=1e-2)


def test_predicted_ends_are_those_of_drawn_paths(rows):
    """Heavy ball along each direction with curvature and noise as measured, 4000 runs."""
    directions = rows[(rows.what == "direction") & rows.predicted.notna()]
    kappa, c = directions.curvature.to_numpy(), directions.noise.to_numpy()
    k, runs, rng = 300, 4000, np.random.Generator(np.random.Philox(1))
    mu = averaging.swa(k)
    moments = problems.stationary_moments(kappa, c, SETTINGS.lr, SETTINGS.momentum)
    losses = {"predicted average": 0.0, "predicted side-trip": 0.0}
    for curvature, noise, of_start in zip(kappa, c, moments, strict=True):
        starts = rng.standard_normal((runs, 2)) @ np.linalg.cholesky(of_start).T
        steps = np.sqrt(noise) * rng.standard_normal((k, runs))
        for arm in losses:
            trip = arm.endswith("side-trip")
            rates = SETTINGS.lr * (averaging.kernel_weights(mu) if trip else np.ones(k))
            path = problems.heavy_ball(
                steps, rates, SETTINGS.momentum, starts[:, 0], starts[:, 1], curvature
            )
            end = path[-1] if trip else mu @ path
            losses[arm] += 0.5 * curvature * float((end**2).mean())
    ends = rows[(rows.kernel == "swa") & (rows.k == k)].set_index("arm").train_loss
    for arm, loss in losses.items():
        assert ends[arm] == pytest.approx(loss, rel=0.05)
    assert ends["predicted side-trip"] > 1.1 * ends["predicted average"]


def test_without_directions_there_is_no_table():
    assert SPECTRUM(replace(SETTINGS, directions=0)).empty
    assert module.operations(replace(SETTINGS, directions=0)) == 0.0


# The slope, on tables that are known.

PAIRS = [(name, k) for name in ("swa", "ema") for k in (10, 100, 1000)]


def made(slope: float, shuffled: bool = False, seeds: int = 12) -> pd.DataFrame:
    """Predictions by window, and what is measured: a slope times them, branches and noise added."""
    rng, rows = np.random.Generator(np.random.Philox(3)), []
    gaps = {pair: 0.001 * (i + 1) for i, pair in enumerate(PAIRS)}
    for seed in range(seeds):
        order = rng.permutation(len(PAIRS)) if shuffled else range(len(PAIRS))
        mixed = dict(zip(PAIRS, np.array(list(gaps.values()))[order], strict=True))
        for (name, k), gap in gaps.items():
            level = 0.1 + 0.01 * rng.standard_normal()
            cell = {"dataset": "digits", "seed": seed, "kernel": name, "k": k}
            rows += [cell | {"branch": 0, "arm": "predicted average", "train_loss": 0.02},
                     cell | {"branch": 0, "arm": "predicted side-trip", "train_loss": 0.02 + gap}]  # fmt: skip
            for branch in range(4):
                noise = 2e-4 * rng.standard_normal()
                trip = level + slope * mixed[name, k] + noise
                rows += [cell | {"branch": branch, "arm": "average", "train_loss": level, "test_loss": 9.0},
                         cell | {"branch": branch, "arm": "side-trip", "train_loss": trip, "test_loss": 1.0}]  # fmt: skip
    return pd.DataFrame(rows).assign(commit="", device="", setting="")


def judged(table: pd.DataFrame) -> pd.Series:
    contrast = {"name": "slope on the prediction",
                "arms": ["predicted side-trip", "predicted average", "side-trip", "average"]}  # fmt: skip
    claim = claims.Claim(
        id="S-1", origin="ours", where="ours", family="ours", statement="it is as predicted", kind="equivalence",
        unit="slope", needs="cpu", experiment=["spectrum", "figure_5"], contrast=contrast, at_least=0.7,
        at_most=1.3, margin="ours", primary={"cpu": {"dataset": "digits"}},
    )  # fmt: skip
    tables = Decided(table, ("arm", "kernel", "k"), dict(SPECTRUM.measures))
    (row,) = claims.judge(
        "x", [claim], claims.measure([claim], lambda names: tables), "cpu"
    ).itertuples()
    return row


@pytest.mark.parametrize("slope, shuffled, word", [
    (1.0, False, "reproduced"), (1.0, True, "contradicted"), (0.0, False, "contradicted"), (2.0, False, "contradicted"), (-1.0, False, "contradicted"),
])  # fmt: skip
def test_the_slope_tells_a_true_prediction_from_others(slope, shuffled, word):
    row = judged(made(slope, shuffled))
    assert (row.verdict, row.n) == (word, 12)
    assert shuffled or row.value == pytest.approx(slope, abs=0.05)


def test_the_judged_table_has_medians_of_eigenvectors_alone(rows):
    """A direction that Lanczos has not found to a percent of the largest curvature does not count."""
    table = rows.assign(dataset="digits", seed=0)
    loose = table.direction.isin([1, 4, 5])
    table.loc[loose, ["residual", "variance"]] = [0.02 * table.curvature.max(), 1e6]
    judged = SPECTRUM.derive_table(table)
    assert set(judged.what.dropna()) == {"end"} and (judged.what == "end").sum() > 1
    ratio = judged[judged.arm == "directions"].variance_ratio
    true = table[
        ~loose & table.predicted.notna() & (table.residual <= 0.01 * table.curvature.max())
    ]
    assert ratio.tolist() == [pytest.approx((true.variance / true.predicted).median())]
    assert len(true) > 3 and ratio.iloc[0] < 10
