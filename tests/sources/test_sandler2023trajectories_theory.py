"""Section 4 and appendix A: each number that decides a row, made another way."""

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import brentq

from replicate import claims, streams
from replicate.app import registry
from replicate.averaging import ema, kernel_weights, swa, two_point
from replicate.problems import heavy_ball
from replicate.sources.sandler2023trajectories import (
    _equations,
    _kernels,
    _two_scales,
    appendix_a,
    figure_4,
    figure_9,
    figure_11,
    radius,
    regimes,
    spread,
)
from replicate.sources.sandler2023trajectories._samples import Samples
from replicate.sources.sandler2023trajectories._whitened import Whitened
from replicate.sources.sandler2023trajectories.presets import ALGEBRA, PRESETS

SOURCE = registry.source("sandler2023trajectories")
CLAIMS = registry.claims_of(SOURCE)
EXACT = ("appendix_a", "figure_4", "figure_9", "figure_11", "regimes", "section_4")
SAMPLED = ("radius", "spread")
DECIDED = [c for c in CLAIMS if c.experiments and set(c.experiments) <= {*EXACT, *SAMPLED}]


def prepare(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(dataset="quadratic", commit="", device="", setting="the source's")


def judge(tables: dict[str, pd.DataFrame], preset: str) -> pd.DataFrame:
    decide = registry.decide(SOURCE, lambda each: tables.get(each.name, pd.DataFrame()))
    return claims.judge(SOURCE.name, DECIDED, claims.measure(DECIDED, decide), preset)


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """The table of every exact experiment."""
    return {name: prepare(SOURCE[name](ALGEBRA["quadratic"])) for name in EXACT}


@pytest.fixture(scope="module")
def verdicts(tables) -> pd.DataFrame:
    return judge(tables, "smoke")


def value(tables: dict, claim: str, case: str = "", column: str = "value") -> float:
    rows = pd.concat(tables.values())
    rows = rows[(rows.claim == claim) & (rows.case == case)]
    assert len(rows) == 1, claim
    return float(rows[column].iloc[0])


# Verdicts.


def test_every_exact_row_is_decided_as_it_was_found_to_be(verdicts):
    wanted = {c.id for c in DECIDED if not c.has_interval}
    decided = verdicts[verdicts.claim.isin(wanted)]
    assert len(wanted) > 70 and set(decided.claim) == wanted
    assert set(decided[decided.kind == "exact"].verdict) == {"reproduced"}
    assert set(decided[decided.kind == "erratum"].verdict) == {"confirmed"}


def test_no_control_passes(verdicts):
    controls = verdicts[verdicts.control != ""]
    assert len(controls) > 50 and set(controls.control_verdict) == {"fails"}


def test_no_check_is_made_that_no_claim_asks_for(tables):
    asked = {c.id for c in DECIDED}
    made = {claim for table in tables.values() for claim in table.claim.dropna()}
    assert made - {""} == {c.id for c in DECIDED if not c.has_interval} <= asked


def simulated(truth: float, other: float, seeds: int = 8) -> dict[str, pd.DataFrame]:
    """Tables of the sampled experiments whose every judged number is `truth`, every control `other`."""
    jitter = 1 + 1e-3 * np.random.default_rng(0).standard_normal(seeds)
    drawn, heights = [], []
    for seed, noise in enumerate(jitter):
        settled = {"square": truth * noise, "kurtosis": truth * noise, "spread": truth * noise}
        wrong = dict.fromkeys(settled, other * noise)
        ofs = [("simulated", 64, 0.02, settled), ("large rates", 64, np.nan, wrong | {"slope": other * noise / 2}),
               ("unequal curvatures", 64, np.nan, wrong), ("small rates", 64, np.nan, {"slope": truth * noise / 2}),
               ("simulated", 4, 0.05, {"square": truth * noise}), ("equation 12", 4, 0.05, {"square": 1.0}),
               ("without perp", 4, 0.05, {"square": truth / other})]  # fmt: skip
        drawn += [
            {"seed": seed, "d": 64, "arm": arm, "m": m, "lr": lr} | more for arm, m, lr, more in ofs
        ]
        for kernel, k, n in (("swa", 100, np.nan), ("n-point", 1000, 10)):
            arms = {
                "simulated": truth * noise,
                "equation 19": 1.0,
                "two-point formula": truth / other,
            }
            heights += [{"seed": seed, "arm": arm, "kernel": kernel, "k": k, "n": n, "lr": 0.05, "variance": height}
                        for arm, height in arms.items()]  # fmt: skip
    return {"radius": prepare(pd.DataFrame(drawn)), "spread": prepare(pd.DataFrame(heights))}


@pytest.mark.parametrize("truth, other, word, against", [
    (1.0, 2.0, "reproduced", "fails"),
    (2.0, 1.0, "contradicted", "passes too"),
])  # fmt: skip
def test_simulated_rows_follow_the_truth(truth, other, word, against):
    judged = judge(simulated(truth, other), "cpu")
    rows = judged[judged.claim.isin([c.id for c in DECIDED if c.has_interval])]
    assert len(rows) == 6 and set(rows.verdict) == {word}
    assert set(rows.control_verdict) == {against}


def test_too_few_seeds_are_never_firm():
    judged = judge(simulated(1.0, 2.0, seeds=4), "cpu")
    rows = judged[judged.claim.isin([c.id for c in DECIDED if c.has_interval])]
    assert set(rows.verdict) == {"inconclusive"}


# Numbers, made another way.


def test_lemma_1_falls_short_by_what_a_lyapunov_equation_says(tables):
    """E-3: E H (x) H of m Gaussian rows built from fourth moments, the full d^2 x d^2 operator."""
    d, m, rate = 5, 4, 0.05
    identity, swap = np.eye(d * d), np.zeros((d * d, d * d))
    trace = np.outer(np.eye(d).ravel(), np.eye(d).ravel())
    for i in range(d):
        for j in range(d):
            swap[i * d + j, j * d + i] = 1
    double = identity + (swap + trace) / m
    start = np.linalg.solve(2 * rate * identity - rate**2 * double, rate**2 * np.eye(d).ravel())
    square = np.trace(start.reshape(d, d))
    h2 = 1 + (d + 1) / m
    assert square == pytest.approx(rate * d / (2 - rate * h2), rel=1e-12)
    # The same law at the claim's d = 64: printed over settled is (2 - rate h2) / 2.
    expected = (2 - 0.05 * (1 + 65 / 4)) / 2
    assert value(tables, "E-3.printed", "d=64 m=4") == pytest.approx(expected, rel=1e-12)
    edge = brentq(lambda each: 1 - 2 * each + each**2 * (1 + 65 / 4) - 1, 0.05, 1.0)
    assert value(tables, "E-3.boundary", "d=64 m=4") == pytest.approx(edge * (1 + 65 / 4), rel=1e-9)


@pytest.mark.parametrize("kernel", list(_kernels.list_kernels()))
def test_equation_19_is_the_variance_of_drawn_averages(kernel):
    """Monte Carlo for every kernel, whatever the sign of its weights."""
    mu, gamma, runs = _kernels.list_kernels()[kernel], 0.95, 8000
    rng = np.random.default_rng(5)
    theta = rng.standard_normal(runs) * np.sqrt(0.05**2 / (1 - gamma**2))
    average = mu[0] * theta
    for weight in mu[1:]:
        theta = gamma * theta - 0.05 * rng.standard_normal(runs)
        average = average + weight * theta
    system = Whitened(np.eye(1), np.eye(1), 0.05)
    expected = system.equation_19(mu).item()
    assert (average**2).mean() == pytest.approx(expected, rel=4 * np.sqrt(2 / runs))


def test_the_loss_of_equation_19_is_that_of_the_lyapunov_equation():
    system = Whitened.draw(6, 0.2, 10)
    mu = _kernels.list_kernels()["swa k=10"]
    gamma = np.eye(6) - 0.2 * system.curvature
    raw = solve_discrete_lyapunov(gamma, 0.04 * system.noise)
    exact = sum(
        a * b * (np.linalg.matrix_power(gamma, abs(i - j)) @ raw if i >= j
                 else raw @ np.linalg.matrix_power(gamma, abs(i - j)))
        for i, a in enumerate(mu) for j, b in enumerate(mu)
    )  # fmt: skip
    printed = system.root @ system.equation_19(mu) @ system.root.T
    loss = np.trace(system.curvature @ exact)
    assert np.trace(system.curvature @ printed) == pytest.approx(loss, rel=1e-12)
    assert np.abs(printed - exact).max() > 0.01 * np.abs(exact).max()
    assert np.abs(printed - printed.T).max() > 0.01 * np.abs(exact).max()


def test_n_points_have_the_closed_forms_of_their_sums():
    gamma, n, apart = np.array([0.9, 0.2, -0.6]), 7, 3
    lags = np.arange(n)
    mean = sum(gamma ** (apart * abs(i - j)) for i in lags for j in lags) / n**2
    np.testing.assert_allclose(_kernels.equation_21(gamma, n, apart), mean, rtol=1e-12)


@pytest.mark.parametrize("name, kernel", regimes.AVERAGES.items())
def test_regimes_are_those_of_runs_that_are_drawn(name, kernel):
    """The same start and noise for average and side-trip, at x = 3 and k = 30."""
    k, x, runs, rng = 30, 3.0, 20_000, np.random.default_rng(6)
    mu, kappa = kernel(k), x / k
    variance = 1 / (kappa * (2 - kappa))
    start, noise = rng.standard_normal(runs) * np.sqrt(variance), rng.standard_normal((k, runs))
    path = heavy_ball(noise, np.ones(k), 0.0, start, np.zeros(runs), kappa)
    trip = heavy_ball(noise, kernel_weights(mu), 0.0, start, np.zeros(runs), kappa)
    ends = regimes.compare(mu, np.array([x]))
    for arm, points in (("average", mu @ path), ("trip", trip[-1])):
        expected = ends[arm].item() * variance
        assert np.mean(points**2) == pytest.approx(expected, rel=4 * np.sqrt(2 / runs)), arm
        alone = heavy_ball(np.zeros((k, 1)), np.ones(k) if arm == "average" else kernel_weights(mu),
                           0.0, np.ones(1), np.zeros(1), kappa)  # fmt: skip
        share = (mu @ alone if arm == "average" else alone[-1]).item()
        assert ends[f"{arm} offset"].item() == pytest.approx(share, rel=1e-10)


def test_two_scales_settle_where_the_joint_recursion_does():
    """(theta, mean) as one linear process of each direction, by a Lyapunov solver."""
    delta, floors = 1 / 450, _two_scales.settle_losses()
    for i, kappa in enumerate((1.0, 0.015)):
        for arm, rate in (("large rate", 0.05), ("small rate", 0.02)):
            shrink = 1 - rate * kappa
            step = np.array([[shrink, 0.0], [delta * shrink, 1 - delta]])
            into = rate * np.array([1.0, delta])
            moments = solve_discrete_lyapunov(step, np.outer(into, into))
            assert floors[arm][i] == pytest.approx(kappa * moments[0, 0] / 2, rel=1e-9)
            if arm == "large rate":
                assert floors["EMA"][i] == pytest.approx(kappa * moments[1, 1] / 2, rel=1e-9)


def test_expected_losses_of_two_scales_are_means_of_drawn_runs():
    rng, runs, steps = np.random.default_rng(7), 4000, 300
    theta = np.tile(_two_scales.BEGIN, (runs, 1))
    mean, kappa = theta.copy(), np.array([1.0, 0.015])
    for _ in range(steps):
        theta = theta - 0.05 * (kappa * theta + rng.standard_normal(theta.shape))
        mean = mean + (theta - mean) / 450
    exact = _two_scales.follow_losses(steps)
    for arm, points in (("large rate", theta), ("EMA", mean)):
        losses = kappa * points**2 / 2
        error = losses.std(0) / np.sqrt(runs)
        assert (np.abs(losses.mean(0) - exact[arm][-1]) < 4 * error).all(), arm


def test_an_average_leaves_of_each_direction_what_a_sum_of_its_correlations_says():
    """Of numbers with correlations a^n an EMA leaves d / (2 - d) (1 + a (1 - d)) / (1 - a (1 - d))."""
    rows = {claim: (value, other) for claim, _, value, other in figure_11._shares()}
    d, left = 1 / 450, {}
    for name, kappa in (("fast", 1.0), ("slow", 0.015)):
        a = (1 - 0.05 * kappa) * (1 - d)
        left[name] = d / (2 - d) * (1 + a) / (1 - a)
    assert rows["TRAJ-44.larger"][0] == pytest.approx(left["fast"] / left["slow"], rel=1e-9)
    for name, other in (("fast", "slow"), ("slow", "fast")):
        share = figure_11.SHARES_OF_EMA[name]
        expected = (left[name] / share, left[other] / share)
        assert rows[f"TRAJ-44.{name}"] == pytest.approx(expected, rel=1e-9)


def test_which_reading_of_450_steps_lies_nearer_to_the_small_rate():
    """Both readings by the formula above: the floor at a decay d, against that of the small rate."""

    def floor(rate, d=None):
        a = 1 - rate * np.array([1.0, 0.015])
        left = 1 if d is None else d / (2 - d) * (1 + a * (1 - d)) / (1 - a * (1 - d))
        return (np.array([1.0, 0.015]) * rate**2 / (1 - a**2) * left / 2).sum()

    apart = [abs(np.log(floor(0.05, d) / floor(0.02))) for d in (1 / 450, 1 - 0.5 ** (1 / 450))]
    (found,) = [value for claim, _, value, _ in figure_9._floors() if claim == "TRAJ-43.decay"]
    assert found == pytest.approx(apart[0] - apart[1], rel=1e-9)


def test_losses_of_a_drawn_run_are_those_of_its_points():
    drawn = _two_scales.draw_runs((3,)).set_index(["arm", "direction", "step"]).loss
    rng, theta, kappa = streams.rng(3, "noise", 1), _two_scales.BEGIN, np.array([1.0, 0.015])
    for step in range(8001):
        if step in (1, 8000):
            found = [drawn["small rate", name, step] for name in ("fast", "slow")]
            assert found == pytest.approx(kappa * theta**2 / 2, rel=1e-9)
        theta = theta - 0.02 * (kappa * theta + rng.standard_normal((1, 2))[0])


def test_the_running_average_of_a_drawn_run_is_the_kernel_of_an_ema():
    points = np.random.default_rng(8).standard_normal((41, 2))
    expected = ema(40, 1 / 450) @ points
    np.testing.assert_allclose(_two_scales.smooth(points)[-1], expected, rtol=1e-12)


def test_drag_and_drift_are_those_of_samples_at_the_settled_radius(monkeypatch):
    """Few dimensions, few rows and a large rate: there each of the parts of drift is seen."""
    rng, d, m, rate, count = np.random.default_rng(9), 4, 2, 0.2, 100_000
    monkeypatch.setattr(figure_4, "DIMENSIONS", d)
    theta = np.zeros(d)
    theta[0] = np.sqrt(rate * d / (2 - rate * (1 + (d + 1) / m)))
    rows = rng.standard_normal((count, m, d)) / np.sqrt(m)
    pull = np.einsum("nij,ni->nj", rows, rows @ theta)
    parts = figure_4.measure_parts(rate, m)
    drag = np.sqrt(np.mean(pull[:, 0] ** 2))
    assert drag == pytest.approx(parts["drag of the gradient"], rel=0.02)
    across = pull * (np.arange(d) > 0)
    drift = across + np.einsum("nij,ni->nj", rows, rng.standard_normal((count, m)))
    measured = rate * np.sqrt(np.mean((drift**2).sum(1)))
    assert measured == pytest.approx(parts["drift of the step"], rel=0.02)


def test_samples_are_centred_and_white_where_asked():
    samples = Samples.draw(50, 3, 4, whitened=True)
    np.testing.assert_allclose(samples.biases.mean(0), 0, atol=1e-13)
    np.testing.assert_allclose(samples.curvature, np.eye(4), atol=1e-13)
    theta, step = np.array([1.0, -2.0, 0.5, 3.0]), np.array([[0.1, 0.2, -0.3, 0.4]])
    ahead = samples.losses(theta + step[0]).mean() - samples.losses(theta).mean()
    assert samples.step_loss(theta, step) == pytest.approx(ahead, rel=1e-9)
    assert np.abs(Samples.draw(50, 3, 4).curvature - np.eye(4)).max() > 0.05


@pytest.mark.parametrize("name, kernel", [("swa", swa), ("ema", lambda k: ema(k, 0.3))])
def test_symbols_weigh_steps_as_numbers_do(name, kernel):
    """Zero terms are left of what is right, and some of a single weight that is wrong."""
    assert _equations.weigh_printed(name, 4)[0] == 0
    mu = tuple(kernel(4))
    tails = tuple(kernel_weights(np.array(mu)))
    start = (1.0, *np.cumsum(np.arange(1.0, 5.0)) + 1)
    trip = 1 + sum(w * move for w, move in zip(tails, range(1, 5), strict=True))
    assert np.dot(mu, start) == pytest.approx(trip, rel=1e-12)
    exact = (0.5, 0, 0.5), (0.5, 0.5)
    assert _equations.weigh_steps(*exact) == 0 and _equations.weigh_steps(exact[0], (0.5, 0.4)) == 1


# What is drawn.


def test_simulated_radii_and_spreads_are_of_every_seed_and_arm(monkeypatch):
    monkeypatch.setattr(radius, "SNAPSHOTS", 2)
    monkeypatch.setattr(radius, "SETTLE", 0.2)
    monkeypatch.setattr(radius, "SPACED", 0.1)
    monkeypatch.setattr(spread, "DRAWN_AVERAGES", 50)
    settings = PRESETS["smoke"]["quadratic"]
    table = radius.radius(settings)
    assert table.groupby("seed").size().tolist() == [7] and table.m.isin([4, 64]).all()
    again = spread.spread(settings)
    assert set(again.kernel) == {"swa", "two-point", "ema", "n-point"}
    assert again[again.arm == "simulated"].variance.nunique() == 7


def test_described_points_are_gaussian_where_they_are():
    points = np.random.default_rng(10).standard_normal((20_000, 64))
    described = radius.describe(points)
    assert described["square"] == pytest.approx(64, rel=0.01)
    assert described["kurtosis"] == pytest.approx(1, abs=0.01)
    assert described["spread"] == pytest.approx(1, abs=0.03)


def test_the_two_point_formula_is_eq_20():
    mu = two_point(6)
    rho = 0.8 ** np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
    assert mu @ rho @ mu == pytest.approx((1 + 0.8**6) / 2, rel=1e-14)
    assert appendix_a._worst_gap(mu, 0.8) < 1e-14 < appendix_a._worst_gap(mu, 0.8, swa(6))
