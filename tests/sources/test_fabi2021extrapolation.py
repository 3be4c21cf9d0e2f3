"""Derivations that can fail, paths and networks against dull loops, and checks against inputs whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

from replicate import claims, datasets, models, paths
from replicate.errors import Diverged
from replicate.optim.stencils import step_coefficients
from replicate.problems import PROBLEMS
from replicate.sources import fabi2021extrapolation as source
from replicate.sources.fabi2021extrapolation import arms, comparison, float32, outside, printed, toys, trained

ALGEBRA = source.ALGEBRA["quadratic"]
NAME = "fabi2021extrapolation"
SMALL = replace(
    source.PRESETS["smoke"]["digits"],
    width=16,
    steps=20,
    arms=("plain", "dt=1e-10", "s=0.5", "every=4", "s=1 late", "rate-1.5", "heavy-ball", "double"),
    rates=(0.05, 0.2),
    batches=(32,),
    rows=2,
)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")


# Derivations.


def values(table: pd.DataFrame, column: str = "value") -> dict[str, float]:
    return dict(zip(table.claim, table[column], strict=True))


def test_every_printed_line_is_held_against_algebra_and_the_slips_are_found():
    found = values(source.derivations(ALGEBRA))
    right = [name for name in found if name.startswith("EXTRA") and name != "EXTRA-04.first"]
    assert len(right) == 11 and {found[name] for name in right} == {0.0}
    assert (found["X-3.sign"], found["X-3.solution"], found["X-4.second"], found["X-4.third"]) == (-1, 1.5, 6, 4)
    assert {one for one in values(source.derivations(ALGEBRA), "control").values() if one == 0} == set()


@pytest.mark.parametrize(
    "place, key, wrong, claim",
    [
        (printed.UPDATE, "bdf", printed.UPDATE["bdf"] + printed.s * printed.g[2], "EXTRA-12"),
        (printed.UPDATE, "backward", printed.UPDATE["backward"] * 2, "EXTRA-04"),
        (printed.GRADIENTS, 1, printed.GRADIENTS[1] + printed.g[0], "EXTRA-08"),
        (printed.GRADIENTS, 2, -printed.GRADIENTS[2], "EXTRA-09"),
        (printed.GRADIENTS, 3, printed.GRADIENTS[3].subs(printed.g[1], printed.g[0]), "EXTRA-10"),
    ],
)
def test_another_line_on_the_page_would_be_noticed(monkeypatch, place, key, wrong, claim):
    monkeypatch.setitem(place, key, wrong)
    assert values(source.derivations(ALGEBRA))[claim] > 0


@pytest.mark.parametrize(
    "name, value, claim",
    [("TAYLOR", ((-1, 1, -1), *printed.TAYLOR[1:]), "EXTRA-06"), ("FIRST", (2, -3, 1, 0), "EXTRA-07"),
     ("MATRIX", printed.MATRIX + sympy.eye(4), "EXTRA-07")],
)  # fmt: skip
def test_another_system_on_the_page_would_be_noticed(monkeypatch, name, value, claim):
    monkeypatch.setattr(printed, name, value)
    assert values(source.derivations(ALGEBRA))[claim] > 0


def test_lines_are_a_table_of_formulas():
    text = source.lines(source.derivations(ALGEBRA)).splitlines()
    assert len(text) == 2 + len(source.derivations(ALGEBRA)) and all(line.count("|") == 4 for line in text)


# What the class does.


def test_the_published_class_against_a_loop_that_reads_the_page_in_three_passes():
    """Three passes over the weights, as the source's class makes them."""
    w, history, path = outside.START[0].copy(), [], [outside.START[0].copy()]
    eta, dt = outside.ETA, outside.S * outside.ETA
    for call in range(1, outside.STEPS + 1):
        g = outside.CURVATURE * w
        w = w - eta * g
        if call > 3:
            g1, g2 = history[-1], history[-2]
            w = w - dt * eta / (6 * eta) * (11 * g - 7 * g1 + 2 * g2)
            w = w - dt**2 * eta / (2 * eta**2) * (2 * g - 3 * g1 + g2)
            w = w - dt**3 * eta / (6 * eta**3) * (g - 2 * g1 + g2)
        history.append(g)
        path.append(w)
    np.testing.assert_allclose(outside._by_formula("bdf"), path, rtol=1e-12)
    made = outside._path(outside._taylor(variant="published"))
    np.testing.assert_allclose(made, path, rtol=1e-10, atol=1e-14)


def test_calls_that_extrapolate_are_told_from_those_that_do_not():
    path = outside._path(outside._taylor(every=4))
    np.testing.assert_array_equal(outside._extrapolating(path), np.arange(4, outside.STEPS + 1, 4))
    assert not len(outside._extrapolating(outside._path(lambda theta: [plain_sgd(theta)])))


def plain_sgd(theta):
    return torch.optim.SGD(theta, lr=outside.ETA)


def test_a_history_that_a_late_parameter_never_had_is_seen_and_the_corrected_class_has_none(monkeypatch):
    found = dict((claim, value) for claim, _, value, _ in outside._late_and_stale())
    assert found["X-10"] == 2 and found["X-11"] == pytest.approx(10, rel=1e-4)
    class_of = outside.TaylorExtrapolation
    monkeypatch.setattr(outside, "TaylorExtrapolation", lambda *args, variant: class_of(*args))
    found = dict((claim, value) for claim, _, value, _ in outside._late_and_stale())
    assert found["X-10"] == 3 and found["X-11"] != pytest.approx(10, rel=0.1)


# Toy functions.

TOY = replace(source.TOYS["rosenbrock"], steps=60, strides=(1e-3,), arms=("adam", "GD+", "gradient", "weights", "rate"))


def dull_toy(arm: str, lr: float, dt: float, steps: int) -> np.ndarray:
    """Adam written out, and after each of its steps what the arm adds."""
    x, m, v, path = np.array(TOY.start), np.zeros(2), np.zeros(2), [np.array(TOY.start)]
    rate, gradients, moves = lr + dt * (arm == "rate"), [], []
    c = step_coefficients(dt / lr, 3)
    for t in range(1, steps + 1):
        g = outside.rosenbrock_slope(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        move = -rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        gradients, moves = [g, *gradients[:2]], [move, *moves[:2]]
        x = x + move
        if arm == "gradient" and t > 3:
            x = x - dt * g
        if arm == "GD+" and t > 3:
            x = x - lr * sum(a * b for a, b in zip(c, gradients, strict=True))
        if arm == "weights" and t > 2:
            x = x + sum(a * b for a, b in zip(c, moves, strict=True))
        path.append(x)
    return np.array(path)


@pytest.mark.parametrize("arm", TOY.arms)
def test_toy_paths_are_those_of_a_loop_written_out(arm):
    table = toys.path_run(TOY, {"arm": arm}, None, [], "cpu")
    for dt in table.dt.unique():
        own = table[table.dt == dt]
        np.testing.assert_allclose(own[["x", "y"]], dull_toy(arm, TOY.lr, dt, 60), rtol=1e-7)
        np.testing.assert_allclose(own.distance, ((own[["x", "y"]] - 1) ** 2).sum(1))
    assert arm == "adam" or set(table.dt) == {1e-5, 1e-4, 1e-3}


def test_the_search_has_the_sources_grid_and_goes_on_to_three():
    rates = toys._rates(0.1)
    np.testing.assert_allclose(rates[:10], np.geomspace(0.001, 0.1, 10))
    np.testing.assert_allclose(rates[1:] / rates[:-1], rates[1] / rates[0])
    assert rates[-2] < 3 <= rates[-1] * (1 + 1e-12)
    table = toys.search_run(replace(TOY, steps=30), {"arm": "adam", "dt": 0.0}, None, [], "cpu")
    for lr, distance in zip(table.lr[[3, 12]], table.distance[[3, 12]], strict=True):
        end = dull_toy("adam", lr, 0.0, 30)[-1]
        assert distance == pytest.approx(((end - 1) ** 2).sum(), rel=1e-6)


def test_basins_count_the_starts_that_reach_each_minimum():
    settings = replace(source.TOYS["goldstein-price"], steps=3000, lr=0.01, basin_starts=40)
    table = toys.basin_run(settings, {"arm": "adam", "dt": 0.0}, None, [], "cpu")
    assert len(table) == toys.SETS and table.seed.tolist() == list(range(10))
    assert (table.share + table.elsewhere + table.lost <= 1).all() and 0.1 < table.share.mean() < 0.9
    assert table.elsewhere.mean() > 0.1
    with pytest.MonkeyPatch.context() as patch:  # the local minimum taken for the global one exchanges the shares
        problem = PROBLEMS["goldstein-price"]
        patch.setitem(PROBLEMS, "goldstein-price", replace(problem, minima=problem.minima[1:2] + problem.minima[:1]))
        swapped = toys.basin_run(settings, {"arm": "adam", "dt": 0.0}, None, [], "cpu")
    assert (swapped.elsewhere == table.share).all()


# Networks.


def images(settings=SMALL):
    found = datasets.load(settings.dataset)
    kept = round(len(found.train_x) * (1 - settings.validation))
    return found, kept


def dull_network(arm: str, lr: float, seed: int, settings=SMALL) -> torch.Tensor:
    """The weights at the end of a run, by plain tensors."""
    found, kept = images(settings)
    data = datasets.Batches(found.train_x[:kept], found.train_y[:kept], settings.batch, found.classes)
    model = models.mlp(found.train_x[0].size, (settings.width,) * 2, found.classes, seed)
    about, moves, velocity = arms.ARMS[arm], [], 0.0
    steps = settings.steps * about.length
    for step in range(steps):
        x, y = data.batch(seed, 0, step)
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        late = step >= about.begin * steps
        gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
        velocity = about.momentum * velocity + gradient
        move = -lr * (about.factor if late else 1) * velocity
        moves = [move, *moves[:2]] if late else []
        s, done = about.s, len(moves) == 3 and (step + 1 - round(about.begin * steps)) % about.every == 0
        if s and done:
            move = move + sum(c * d for c, d in zip(step_coefficients(s, 3, about.derivative), moves, strict=True))
        with torch.no_grad():
            place = 0
            for p in model.parameters():
                p += move[place : place + p.numel()].view_as(p)
                place += p.numel()
    return model


@pytest.mark.parametrize(
    "arm", ["plain", "s=0.5", "backward", "every=4", "s=1 late", "rate-1.5", "rate-2 late", "heavy-ball", "double"]
)
def test_an_arm_ends_where_a_loop_with_plain_tensors_ends(arm):
    table = comparison.main_run(replace(SMALL, seeds=(1,)), {"arm": arm, "lr": 0.1, "batch": 64}, None, [], "cpu")
    found, kept = images()
    model = dull_network(arm, 0.1, 1)
    data = datasets.Batches(found.train_x[:kept], found.train_y[:kept], 64, found.classes)
    for x, y, loss, top1 in ((found.test_x, found.test_y, "test_loss", "top1"),
                             (found.train_x[kept:], found.train_y[kept:], "valid_loss", "valid_top1")):  # fmt: skip
        pixels, labels = data.plain(x, y)
        with torch.no_grad():
            outputs = model(pixels)
        assert table[loss].iloc[-1] == pytest.approx(
            float(torch.nn.functional.cross_entropy(outputs, labels)), rel=2e-4
        )
        assert table[top1].iloc[-1] == pytest.approx(float((outputs.argmax(1) == labels).float().mean()), abs=0.006)
    steps = SMALL.steps * arms.ARMS[arm].length
    assert table.step.tolist() == [0, steps // 2, steps] and table.seconds.is_monotonic_increasing


def test_tables_have_every_arm_in_every_regime_and_rates_are_those_of_the_search():
    table, search = source.networks(SMALL), source.search(SMALL)
    assert set(search.seed) == set(SMALL.tuning_seeds) and not set(search.seed) & set(table.seed)
    for arm in SMALL.searched:
        own = search[(search.arm == arm) & (search.batch == 64)].set_index("lr")
        for regime, metric in (("tuned", "train_loss"), ("validated", "valid_loss")):
            assert set(table[(table.arm == arm) & (table.regime == regime)].lr) == {own[metric].idxmin()}
    assert set(table[table.regime == "source"].arm) == set(SMALL.arms) == set(table[table.regime == "plain-best"].arm)
    assert not table.duplicated(["regime", "arm", "seed", "step"]).any()
    plain = table[(table.arm == "plain") & table.regime.isin(["tuned", "plain-best"])]
    assert plain.groupby("regime").lr.first().nunique() == 1


def test_a_run_that_diverges_is_a_row_with_its_step_and_its_rate_is_not_chosen(monkeypatch):
    whole = comparison.training.steps

    def steps(model, data, optimizer, schedule, seed, stream, start, stop):
        yield from whole(model, data, optimizer, schedule, seed, stream, start, stop)
        if schedule(start) > 0.1 and seed in (1, 1000) and stop > 10:
            raise Diverged("loss became nan at step 17 (rate 0.2)", 17)

    monkeypatch.setattr(comparison.training, "steps", steps)
    settings = replace(SMALL, seeds=(0, 1), tuning_seeds=(1000, 1001))
    table = comparison.main_run(settings, {"arm": "s=0.5", "lr": 0.2, "batch": 64}, None, [], "cpu")
    assert table.lost.tolist()[:5] != [17.0] * 5 and table.lost.tolist()[-1] == 17.0
    assert table[table.lost.notna()][list(comparison.METRICS)].isna().all(axis=None)
    assert table[table.seed == 0].lost.isna().all() and table[table.seed == 0].train_loss.notna().all()
    best = comparison._best(comparison._searched(settings, ("plain",), (64,)), "train_loss")
    assert best == {("plain", 64): 0.05}


def test_what_arrives_in_the_weights():
    table = float32.resolution_run(SMALL, {"seed": 0}, None, [], "cpu")
    own = table[table.dt.notna()].set_index("dt")
    assert own.what.value_counts().to_dict() == {"dt": 6, "printed": 1} and own.what[1e-10] == "printed"
    assert own.changed[1e-10] < 0.01 < 0.9 < own.changed[1e-2] and own.changed.is_monotonic_increasing
    assert own.length[1e-8] / own.length[1e-10] == pytest.approx(100, rel=1e-3)
    # With independent displacements of equal length the prediction is exact on average.
    noise = np.random.Generator(np.random.Philox(3)).standard_normal((3, 400, 500))
    long = np.mean([np.sum(float32._combined(list(noise[:, i]), 1.0) ** 2) for i in range(400)])
    assert long / (19 * 500) == pytest.approx(1, abs=0.02)


# Judgements, on tables whose truth is known, at the seeds of preset cpu.


def curves(gain: float, seeds: int = 10, **arms_gain: float) -> pd.DataFrame:
    """A `networks` of digits: every arm's loss falls as exp(-gain t), plain's as exp(-t); noise a seed is shared."""
    noise = np.random.Generator(np.random.Philox(11))
    gains = {"plain": 1.0, "dt=1e-10": 1.0, "s=0.5": gain, "rate-1.5": gain, "heavy-ball": 1.0, "double": 1.0}
    rows = []
    for seed in range(seeds):
        level = 1 + 0.1 * noise.standard_normal()
        for arm, speed in (gains | arms_gain).items():
            for i in range(21):
                t, own = i / 20 * (2 if arm == "double" else 1), 0.01 * noise.standard_normal()
                loss, top1 = 2 * level * np.exp(-2 * speed * t + own), 0.9 + 0.05 * (speed * t - 1) + 0.0005 * own
                rows += [("digits", r, arm, 0.02, seed, 0, 400 * t, 4.0 * t, loss, top1)
                         for r in ("source", "tuned", "plain-best")]  # fmt: skip
    names = "dataset regime arm lr seed branch step seconds train_loss top1".split()
    return pd.DataFrame(rows, columns=names).assign(commit="", device="")


def judged(table: pd.DataFrame) -> pd.DataFrame:
    empty = {e.__name__: pd.DataFrame(columns=["claim"]) for e in source.EXPERIMENTS}
    return claims.judge(NAME, claims.load(NAME), source.measure(empty | {"networks": table}), "cpu", source.BUILT)


def verdict(table: pd.DataFrame, claim: str, case: str) -> pd.Series:
    found = judged(table)
    (row,) = found[(found.claim == claim) & (found.case == case)].itertuples()
    return row


@pytest.mark.parametrize("gain, expected", [(1.3, "reproduced"), (0.75, "contradicted")])
@pytest.mark.parametrize(
    "claim, case", [("EXTRA-17.steps", "tuned"), ("EXTRA-17.seconds", "tuned"), ("EXTRA-17.source", "source")]
)
def test_faster_is_reproduced_and_slower_contradicted(gain, expected, claim, case):
    found = verdict(curves(gain), claim, f"digits s=0.5 {case}")
    assert (found.verdict, found.n) == (expected, 10)
    assert found.control == ("passes too" if expected == "reproduced" and case == "source" else found.control)


def test_shuffled_arms_decide_nothing_and_say_how_many_seeds_would():
    table = curves(1.3)
    swap = table.arm.map({"plain": "s=0.5", "s=0.5": "plain"}).fillna(table.arm)
    table["arm"] = table.arm.where(table.seed % 2 == 0, swap)
    found = verdict(table, "EXTRA-17.steps", "digits s=0.5 tuned")
    assert found.verdict == "inconclusive" and "seeds would decide" in found.reason


def test_no_effect_at_all_is_no_gain_and_the_same_accuracy():
    table = curves(1.0)
    same = table[table.arm == "plain"].assign(arm="dt=1e-10")
    table = pd.concat([table[table.arm != "dt=1e-10"], same])
    assert verdict(table, "EXTRA-16.accuracy", "digits dt=1e-10 source").verdict == "contradicted"
    assert verdict(table, "EXTRA-16.equal", "digits dt=1e-10 source").verdict == "reproduced"
    assert verdict(table, "EXTRA-16.half", "digits dt=1e-10 source").verdict == "contradicted"


def test_an_effect_of_a_point_is_seen_as_one():
    table = curves(1.0)
    table.loc[table.arm == "dt=1e-10", "top1"] += 0.01
    found = verdict(table, "EXTRA-16.accuracy", "digits dt=1e-10 source")
    assert (found.verdict, found.control) == ("reproduced", "passes too")
    assert verdict(table, "EXTRA-16.equal", "digits dt=1e-10 source").verdict == "contradicted"


def test_a_target_that_one_arm_never_reaches_counts_as_its_end_and_one_that_neither_reaches_as_nothing():
    run = pd.DataFrame({"step": [0, 10, 20], "seconds": [0.0, 1.0, 2.0], "train_loss": [2.0, 1.0, 0.5]})
    run = run.assign(seed=0, branch=0)  # its target is the loss at 3/4 of the steps at the latest: 1.0, at step 10
    slow, lost = run.assign(train_loss=[2.0, 1.9, 1.8]), run.assign(train_loss=[2.0, np.nan, np.nan])
    assert trained._time(run, np.sqrt(0.5), "step") == pytest.approx(15) and np.isnan(trained._time(slow, 1.0, "step"))
    assert trained._sooner(slow, run, run, "step").value.tolist() == [1.0]
    assert trained._sooner(lost, run, run, "seconds").value.tolist() == [1.0]
    assert trained._sooner(slow, lost, run, "step").value.isna().all()


def test_slopes_over_rates_and_batches_have_the_sign_of_the_trend():
    rows = [("digits", arm, lr, 64, seed, 0, loss * (1 + 0.01 * seed), abs(np.log10(lr / 0.02)) + seed)
            for seed in range(10) for lr, gain in ((0.02, 2.0), (0.2, 1.5), (2.0, 1.1))
            for arm, loss in (("plain", 1.0), ("s=0.5", 1 / gain), ("rate-1.5", 1.0))]  # fmt: skip
    names = "dataset arm lr batch seed branch train_loss valid_loss".split()
    found = {
        claim: (value, control) for claim, _, value, control in trained.of_rates(pd.DataFrame(rows, columns=names))
    }
    assert (found["EXTRA-20"][0].value < 0).all() and np.allclose(found["EXTRA-20"][1].value, 0)
    np.testing.assert_allclose(found["EXTRA-28"][0].value, 0)
    rows = [("digits", arm, batch, seed, 0, loss) for seed in range(10) for batch in (16, 64, 256)
            for arm, loss in (("plain", 1.0), ("s=0.5", 16 / batch))]  # fmt: skip
    ((_, _, slope, _),) = trained.of_batch_sizes(
        pd.DataFrame(rows, columns="dataset arm batch seed branch train_loss".split())
    )
    np.testing.assert_allclose(slope.value, np.log10(2))


def test_nothing_on_networks_is_decided_at_smoke():
    empty = {e.__name__: pd.DataFrame(columns=["claim"]) for e in source.EXPERIMENTS}
    found = source.measure(empty | {"networks": curves(1.3)})
    table = claims.judge(NAME, claims.load(NAME), found, "smoke", source.BUILT)
    assert set(table[table.verdict != "not tested"].kind) <= {"exact", "erratum"}


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.0}, {"dt": -1.0}, {"dt": float("nan")}, {"seeds": ()}, {"seeds": (0, 1000)}, {"arms": ("s=0.5",)},
     {"searched": ("plain", "s=7")}, {"searched": ("s=0.5",)}, {"dataset": "mnist"}, {"validation": 1.0}],
    ids=str,
)  # fmt: skip
def test_settings_refuse_what_cannot_be_run(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(source.PRESETS["cpu"]["digits"], **change)


def test_the_cost_counts_each_run_once_an_arm_and_regime():
    one = replace(SMALL, arms=("plain",), searched=("plain",), regimes=("source",), seeds=(0,), batches=())
    unit = source.OPERATIONS[source.networks](one)
    # 3 layers: 64 x 16, 16 x 16, 16 x 10; forward, backward by weights, backward by inputs but the first layer's.
    assert unit == 20 * 64 * 2 * (3 * (64 * 16 + 16 * 16 + 16 * 10) - 64 * 16)
    assert source.OPERATIONS[source.networks](replace(one, seeds=(0, 1), arms=("plain", "double"))) == 6 * unit
    assert source.OPERATIONS[source.search](one) == 2 * unit
    assert source.OPERATIONS[source.search](replace(one, batches=(16,))) == 2 * unit * (64 + 32) / 64
