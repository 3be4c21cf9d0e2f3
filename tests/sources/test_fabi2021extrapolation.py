"""Derivations that can fail, runs against dull loops, and checks against inputs whose truth is
known.
"""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

from replicate import claims, datasets, models, optim, paths
from replicate.app import registry
from replicate.claims.cells import Cells
from replicate.claims.contrasts import Contrast
from replicate.errors import Diverged
from replicate.optim.stencils import step_coefficients
from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation import (
    _arms,
    _networks,
    _printed,
    basins,
    behaviour,
    derivations,
    networks,
    presets,
    rate_search,
    resolution,
)
from replicate.sources.fabi2021extrapolation import paths as toy_paths

NAME = "fabi2021extrapolation"
SOURCE = registry.source(NAME)
CLAIMS = registry.claims_of(SOURCE)
ALGEBRA = presets.ALGEBRA["quadratic"]
SMALL = replace(
    presets.PRESETS["smoke"]["digits"],
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
    found = values(SOURCE["derivations"](ALGEBRA))
    right = [name for name in found if name.startswith("EXTRA") and name != "EXTRA-04.first"]
    assert len(right) == 11 and {found[name] for name in right} == {0.0}
    assert (found["X-3.sign"], found["X-3.solution"], found["X-4.second"], found["X-4.third"]) == (
        -1,
        1.5,
        6,
        4,
    )
    assert {
        one for one in values(SOURCE["derivations"](ALGEBRA), "control").values() if one == 0
    } == set()


@pytest.mark.parametrize(
    "place, key, wrong, claim",
    [
        (_printed.UPDATE, "bdf", _printed.UPDATE["bdf"] + _printed.s * _printed.g[2], "EXTRA-12"),
        (_printed.UPDATE, "backward", _printed.UPDATE["backward"] * 2, "EXTRA-04"),
        (_printed.GRADIENTS, 1, _printed.GRADIENTS[1] + _printed.g[0], "EXTRA-08"),
        (_printed.GRADIENTS, 2, -_printed.GRADIENTS[2], "EXTRA-09"),
        (
            _printed.GRADIENTS,
            3,
            _printed.GRADIENTS[3].subs(_printed.g[1], _printed.g[0]),
            "EXTRA-10",
        ),
    ],
)
def test_another_line_on_the_page_would_be_noticed(monkeypatch, place, key, wrong, claim):
    monkeypatch.setitem(place, key, wrong)
    assert values(SOURCE["derivations"](ALGEBRA))[claim] > 0


@pytest.mark.parametrize(
    "name, value, claim",
    [("TAYLOR", ((-1, 1, -1), *_printed.TAYLOR[1:]), "EXTRA-06"), ("FIRST", (2, -3, 1, 0), "EXTRA-07"),
     ("MATRIX", _printed.MATRIX + sympy.eye(4), "EXTRA-07")],
)  # fmt: skip
def test_another_system_on_the_page_would_be_noticed(monkeypatch, name, value, claim):
    monkeypatch.setattr(_printed, name, value)
    assert values(SOURCE["derivations"](ALGEBRA))[claim] > 0


def test_lines_are_a_table_of_formulas():
    text = derivations.lines(SOURCE["derivations"](ALGEBRA)).splitlines()
    assert len(text) == 2 + len(SOURCE["derivations"](ALGEBRA)) and all(
        line.count("|") == 4 for line in text
    )


# What the class does.


def test_the_published_class_against_a_loop_that_reads_the_page_in_three_passes():
    """Three passes over the weights, as the source's class makes them."""
    w, history, path = behaviour.START[0].copy(), [], [behaviour.START[0].copy()]
    eta, dt = behaviour.ETA, behaviour.S * behaviour.ETA
    for call in range(1, behaviour.STEPS + 1):
        g = behaviour.CURVATURE * w
        w = w - eta * g
        if call > 3:
            g1, g2 = history[-1], history[-2]
            w = w - dt * eta / (6 * eta) * (11 * g - 7 * g1 + 2 * g2)
            w = w - dt**2 * eta / (2 * eta**2) * (2 * g - 3 * g1 + g2)
            w = w - dt**3 * eta / (6 * eta**3) * (g - 2 * g1 + g2)
        history.append(g)
        path.append(w)
    np.testing.assert_allclose(behaviour._by_formula("bdf"), path, rtol=1e-12)
    made = behaviour._path(behaviour._taylor(variant="published"))
    np.testing.assert_allclose(made, path, rtol=1e-10, atol=1e-14)


def test_calls_that_extrapolate_are_told_from_those_that_do_not():
    path = behaviour._path(behaviour._taylor(every=4))
    np.testing.assert_array_equal(
        behaviour._extrapolating(path), np.arange(4, behaviour.STEPS + 1, 4)
    )
    assert not len(behaviour._extrapolating(behaviour._path(lambda theta: [plain_sgd(theta)])))


def plain_sgd(theta):
    return torch.optim.SGD(theta, lr=behaviour.ETA)


def test_a_history_that_a_late_parameter_never_had_is_seen_and_the_corrected_class_has_none(
    monkeypatch,
):
    found = dict((claim, value) for claim, _, value, _ in behaviour._check_late_and_stale())
    assert found["X-10"] == 2 and found["X-11"] == pytest.approx(10, rel=1e-4)
    class_of = optim.TaylorExtrapolation
    monkeypatch.setattr(optim, "TaylorExtrapolation", lambda *args, variant: class_of(*args))
    found = dict((claim, value) for claim, _, value, _ in behaviour._check_late_and_stale())
    assert found["X-10"] == 3 and found["X-11"] != pytest.approx(10, rel=0.1)


# Toy functions.

TOY = replace(
    presets.TOYS["rosenbrock"],
    steps=60,
    strides=(1e-3,),
    arms=("adam", "GD+", "gradient", "weights", "rate"),
)


def dull_toy(arm: str, lr: float, dt: float, steps: int) -> np.ndarray:
    """Adam written out, and after each of its steps what the arm adds."""
    x, m, v, path = np.array(TOY.start), np.zeros(2), np.zeros(2), [np.array(TOY.start)]
    rate, gradients, moves = lr + dt * (arm == "rate"), [], []
    c = step_coefficients(dt / lr, 3)
    for t in range(1, steps + 1):
        g = behaviour.rosenbrock_slope(x)
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
    table = toy_paths.path_run(TOY, {"arm": arm}, None, [], "cpu")
    for dt in table.dt.unique():
        own = table[table.dt == dt]
        np.testing.assert_allclose(own[["x", "y"]], dull_toy(arm, TOY.lr, dt, 60), rtol=1e-7)
        np.testing.assert_allclose(own.distance, ((own[["x", "y"]] - 1) ** 2).sum(axis=1))
    assert arm == "adam" or set(table.dt) == {1e-5, 1e-4, 1e-3}


def test_the_search_has_the_sources_grid_and_goes_on_to_three():
    rates = rate_search._rates(0.1)
    np.testing.assert_allclose(rates[:10], np.geomspace(0.001, 0.1, 10))
    np.testing.assert_allclose(rates[1:] / rates[:-1], rates[1] / rates[0])
    assert rates[-2] < 3 <= rates[-1] * (1 + 1e-12)
    table = rate_search.search_run(
        replace(TOY, steps=30), {"arm": "adam", "dt": 0.0}, None, [], "cpu"
    )
    for lr, distance in zip(table.lr[[3, 12]], table.distance[[3, 12]], strict=True):
        end = dull_toy("adam", lr, 0.0, 30)[-1]
        assert distance == pytest.approx(((end - 1) ** 2).sum(), rel=1e-6)


def test_basins_count_the_starts_that_reach_each_minimum():
    settings = replace(presets.TOYS["goldstein-price"], steps=3000, lr=0.01, basin_starts=40)
    table = basins.basin_run(settings, {"arm": "adam", "dt": 0.0}, None, [], "cpu")
    assert len(table) == basins.SETS and table.seed.tolist() == list(range(10))
    assert (
        table.share + table.elsewhere + table.lost <= 1
    ).all() and 0.1 < table.share.mean() < 0.9
    assert table.elsewhere.mean() > 0.1
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # the local minimum taken for the global one exchanges the shares
        problem = PROBLEMS["goldstein-price"]
        patch.setitem(
            PROBLEMS,
            "goldstein-price",
            replace(problem, minima=problem.minima[1:2] + problem.minima[:1]),
        )
        swapped = basins.basin_run(settings, {"arm": "adam", "dt": 0.0}, None, [], "cpu")
    assert (swapped.elsewhere == table.share).all()


# Networks.


def images(settings=SMALL):
    found = datasets.load(settings.dataset)
    kept = round(len(found.train_x) * (1 - settings.validation))
    return found, kept


def dull_network(arm: str, lr: float, seed: int, settings=SMALL) -> torch.Tensor:
    """The weights at the end of a run, by plain tensors."""
    found, kept = images(settings)
    data = datasets.Batches(
        found.train_x[:kept], found.train_y[:kept], settings.batch, found.classes
    )
    model = models.mlp(found.train_x[0].size, (settings.width,) * 2, found.classes, seed)
    about, moves, velocity = _arms.ARMS[arm], [], 0.0
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
        s, done = (
            about.s,
            len(moves) == 3 and (step + 1 - round(about.begin * steps)) % about.every == 0,
        )
        if s and done:
            move = move + sum(
                c * d for c, d in zip(step_coefficients(s, 3, about.derivative), moves, strict=True)
            )
        with torch.no_grad():
            place = 0
            for p in model.parameters():
                p += move[place : place + p.numel()].view_as(p)
                place += p.numel()
    return model


@pytest.mark.parametrize(
    "arm",
    [
        "plain",
        "s=0.5",
        "backward",
        "every=4",
        "s=1 late",
        "rate-1.5",
        "rate-2 late",
        "heavy-ball",
        "double",
    ],
)
def test_an_arm_ends_where_a_loop_with_plain_tensors_ends(arm):
    table = _networks.main_run(
        SMALL, {"arm": arm, "lr": 0.1, "batch": 64, "seed": 1}, None, [], "cpu"
    )
    found, kept = images()
    model = dull_network(arm, 0.1, 1)
    data = datasets.Batches(found.train_x[:kept], found.train_y[:kept], 64, found.classes)
    for x, y, loss, top1 in ((found.test_x, found.test_y, "test_loss", "top1"),
                             (found.train_x[kept:], found.train_y[kept:], "valid_loss", "valid_top1"),
                             ):  # fmt: skip
        pixels, labels = data.plain(x, y)
        with torch.no_grad():
            outputs = model(pixels)
        assert table[loss].iloc[-1] == pytest.approx(
            float(torch.nn.functional.cross_entropy(outputs, labels)), rel=2e-4
        )
        assert table[top1].iloc[-1] == pytest.approx(
            float((outputs.argmax(1) == labels).float().mean()), abs=0.006
        )
    steps = SMALL.steps * _arms.ARMS[arm].length
    assert table.step.tolist() == [0, steps // 2, steps] and table.seconds.is_monotonic_increasing


def test_tables_have_every_arm_in_every_regime_and_rates_are_those_of_the_search():
    table, search = SOURCE["networks"](SMALL), SOURCE["search"](SMALL)
    assert set(search.seed) == set(SMALL.tuning_seeds) and not set(search.seed) & set(table.seed)
    for arm in SMALL.searched:
        own = search[(search.arm == arm) & (search.batch == 64)].set_index("lr")
        for regime, metric in (("tuned", "train_loss"), ("validated", "valid_loss")):
            assert set(table[(table.arm == arm) & (table.regime == regime)].lr) == {
                own[metric].idxmin()
            }
    assert (
        set(table[table.regime == "source"].arm)
        == set(SMALL.arms)
        == set(table[table.regime == "plain-best"].arm)
    )
    assert not table.duplicated(["regime", "arm", "seed", "step"]).any()
    plain = table[(table.arm == "plain") & table.regime.isin(["tuned", "plain-best"])]
    assert plain.groupby("regime").lr.first().nunique() == 1


def test_a_run_that_diverges_is_a_row_with_its_step_and_its_rate_is_not_chosen(monkeypatch):
    whole = _networks.training.steps

    def steps(model, data, optimizer, schedule, seed, stream, start, stop):
        yield from whole(model, data, optimizer, schedule, seed, stream, start, stop)
        if schedule(start) > 0.1 and seed in (1, 1000) and stop > 10:
            raise Diverged("loss became nan at step 17 (rate 0.2)", 17)

    monkeypatch.setattr(_networks.training, "steps", steps)
    settings = replace(SMALL, seeds=(0, 1), tuning_seeds=(1000, 1001))
    points = [{"arm": "s=0.5", "lr": 0.2, "batch": 64, "seed": seed} for seed in settings.seeds]
    tables = [
        _networks.main_run(settings, point, None, [], "cpu").assign(seed=point["seed"])
        for point in points
    ]
    table = pd.concat(tables)
    assert table.lost.tolist()[:5] != [17.0] * 5 and table.lost.tolist()[-1] == 17.0
    assert table[table.lost.notna()][list(_networks.METRICS)].isna().all(axis=None)
    assert (
        table[table.seed == 0].lost.isna().all() and table[table.seed == 0].train_loss.notna().all()
    )
    best = _networks.choose_rates(_networks.search_rates(settings, ("plain",), (64,)), "train_loss")
    assert best == {("plain", 64): 0.05}


def test_what_arrives_in_the_weights():
    table = resolution.resolution_run(SMALL, {"seed": 0}, None, [], "cpu")
    own = table[table.dt.notna()].set_index("dt")
    assert (
        own.what.value_counts().to_dict() == {"dt": 6, "printed": 1}
        and own.what[1e-10] == "printed"
    )
    assert (
        own.changed[1e-10] < 0.01 < 0.9 < own.changed[1e-2] and own.changed.is_monotonic_increasing
    )
    assert own.length[1e-8] / own.length[1e-10] == pytest.approx(100, rel=1e-3)
    # With independent displacements of equal length the prediction is exact on average.
    noise = np.random.Generator(np.random.Philox(3)).standard_normal((3, 400, 500))
    long = np.mean([np.sum(resolution._combine(list(noise[:, i]), 1.0) ** 2) for i in range(400)])
    assert long / (19 * 500) == pytest.approx(1, abs=0.02)


# Judgements, on tables whose truth is known, at the seeds of preset cpu.


def curves(gain: float, seeds: int = 10, **arms_gain: float) -> pd.DataFrame:
    """A `networks` of digits: an arm's loss falls as exp(-gain t), plain's as exp(-t); seeds share
    noise.
    """
    noise = np.random.Generator(np.random.Philox(11))
    gains = {
        "plain": 1.0,
        "dt=1e-10": 1.0,
        "s=0.5": gain,
        "rate-1.5": gain,
        "heavy-ball": 1.0,
        "double": 1.0,
    }
    rows = []
    for seed in range(seeds):
        level = 1 + 0.1 * noise.standard_normal()
        for arm, speed in (gains | arms_gain).items():
            for i in range(21):
                t, own = i / 20 * (2 if arm == "double" else 1), 0.01 * noise.standard_normal()
                loss, top1 = (
                    2 * level * np.exp(-2 * speed * t + own),
                    0.9 + 0.05 * (speed * t - 1) + 0.0005 * own,
                )
                rows += [("digits", r, arm, 0.02, seed, 0, 400 * t, 4.0 * t, loss, top1)
                         for r in ("source", "tuned", "plain-best", "validated")]  # fmt: skip
    names = "dataset regime arm lr seed branch step seconds train_loss top1".split()
    return pd.DataFrame(rows, columns=names)


def judged(experiment: str, table: pd.DataFrame, preset: str = "cpu") -> pd.DataFrame:
    """The rows of the claims file, judged on this table of one experiment alone."""
    table = table.assign(commit="", device="", setting="")
    decided = registry.decide(
        SOURCE, lambda each: table if each.name == experiment else pd.DataFrame()
    )
    return claims.judge(NAME, CLAIMS, claims.measure(CLAIMS, decided), preset)


def primary(rows: pd.DataFrame, claim: str) -> pd.Series:
    """The primary row of a claim."""
    (row,) = rows[(rows.claim == claim) & (rows.role == "primary")].itertuples()
    return row


def verdict(table: pd.DataFrame, claim: str, experiment: str = "networks") -> pd.Series:
    return primary(judged(experiment, table), claim)


def numbers(table: pd.DataFrame, claim: str, changes: dict | None = None):
    """What the contrast of a claim, or that with some fields changed, comes to per unit in its only
    case.
    """
    (row,) = [each for each in CLAIMS if each.id == claim]
    experiment = SOURCE[row.experiment]
    cells = Cells(experiment.derive_table(table), tuple(experiment.fields))
    contrast = Contrast.read(row.contrast).change(
        {k: v for k, v in (changes or {}).items() if k != "what"}
    )
    (case,) = contrast.cases(cells)
    return contrast.numbers(cells, case)


def control_of(claim: str) -> dict:
    return next(each.control for each in CLAIMS if each.id == claim)


@pytest.mark.parametrize("gain, expected", [(1.3, "reproduced"), (0.75, "contradicted")])
def test_faster_is_reproduced_and_slower_contradicted(gain, expected):
    rows = judged("networks", curves(gain))
    for claim, case in (
        ("EXTRA-17.steps", "tuned"),
        ("EXTRA-17.seconds", "tuned"),
        ("EXTRA-17.source", "source"),
    ):
        found = primary(rows, claim)
        assert (found.verdict, found.n, found.case) == (expected, 10, f"digits {case}")
        # At the source's rate the control is the larger rate, which does the same; else it is heavy
        # ball, which gains 0.
        assert found.control_verdict == ("undecided" if case == "tuned" else
                                         "passes too" if expected == "reproduced" else "fails")  # fmt: skip


def test_a_gain_over_the_larger_rate_is_told_from_none():
    assert verdict(curves(1.3, **{"rate-1.5": 1.1}), "EXTRA-17.rate").verdict == "reproduced"
    assert verdict(curves(1.3, **{"rate-1.5": 1.6}), "EXTRA-17.rate").verdict == "contradicted"
    assert verdict(curves(1.3), "EXTRA-17.rate").verdict == "inconclusive"


def test_other_extrapolations_are_judged_beside_the_primary_one_against_their_rates():
    rows = judged("networks", curves(1.3, **{"s=1": 0.8, "rate-2": 1.6, "every=4": 1.2}))
    rows = rows[rows.claim == "EXTRA-17.source"].set_index("case")
    assert rows.role.to_dict() == {
        "digits source": "primary", "digits source s=1": "secondary", "digits source every=4": "secondary"
    }  # fmt: skip
    assert rows.verdict.to_list() == ["reproduced", "outside", "inside"]
    assert (
        rows.control_verdict["digits source s=1"] == "passes too"
        and rows.control["digits source every=4"] == ""
    )


def test_shuffled_arms_decide_nothing_and_say_how_many_seeds_would():
    table = curves(1.3)
    swap = table.arm.map({"plain": "s=0.5", "s=0.5": "plain"}).fillna(table.arm)
    table["arm"] = table.arm.where(table.seed % 2 == 0, swap)
    found = verdict(table, "EXTRA-17.steps")
    assert found.verdict == "inconclusive" and "seeds would decide" in found.reason


def test_no_effect_at_all_is_no_gain_and_the_same_accuracy():
    table = curves(1.0)
    same = table[table.arm == "plain"].assign(arm="dt=1e-10")
    table = pd.concat([table[table.arm != "dt=1e-10"], same])
    assert verdict(table.assign(dataset="cifar10"), "EXTRA-16.accuracy").verdict == "contradicted"
    rows = judged("networks", table)
    assert primary(rows, "EXTRA-16.equal").verdict == "reproduced"
    assert primary(rows, "EXTRA-16.half").verdict == "contradicted"


def test_an_effect_of_a_point_is_seen_as_one():
    table = curves(1.0)
    table.loc[table.arm == "dt=1e-10", "top1"] += 0.01
    found = verdict(table.assign(dataset="cifar10"), "EXTRA-16.accuracy")
    assert (found.verdict, found.control_verdict) == ("reproduced", "passes too")
    assert verdict(table, "EXTRA-16.equal").verdict == "contradicted"


@pytest.mark.parametrize("loss, expected", [(0.004, "reproduced"), (0.006, "contradicted")])
def test_an_accuracy_may_be_lower_by_half_a_point(loss, expected):
    table = curves(1.0)
    table.loc[table.arm == "s=0.5", "top1"] -= loss
    assert verdict(table, "EXTRA-17.accuracy").verdict == expected


def test_early_and_interrupted_extrapolation_are_compared_by_their_last_loss():
    table = curves(
        1.0, **{"s=1": 0.9, "s=1 late": 1.1, "every=4": 1.1, "rate-2": 1.1, "rate-2 late": 0.9}
    )
    rows = judged("networks", table)
    early = primary(rows, "EXTRA-19.early")
    assert (early.verdict, early.control_verdict) == ("reproduced", "fails")
    advantage = primary(rows, "EXTRA-14.advantage")
    assert (advantage.verdict, advantage.control) == ("reproduced", "")  # rate-1.25 did not run
    assert advantage.value == pytest.approx(0.4 * np.log10(np.e), abs=0.01)


def test_a_target_that_one_arm_never_reaches_counts_as_its_end_and_one_that_neither_reaches_as_nothing():
    run = pd.DataFrame(
        {
            "step": [0, 10, 20],
            "seconds": [0.0, 1.0, 2.0],
            "train_loss": [2.0, 1.0, 0.5],
            "top1": 0.5,
        }
    )
    run = run.assign(
        seed=0, branch=0
    )  # its target is the loss at 3/4 of the steps at the latest: 1.0, at step 10
    slow, lost = (
        run.assign(train_loss=[2.0, 1.9, 1.8]),
        run.assign(train_loss=[2.0, np.nan, np.nan]),
    )
    arms_of = {"plain": run, "s=0.5": slow, "s=1": lost}
    table = pd.concat(
        [part.assign(arm=arm, regime="tuned", dataset="digits") for arm, part in arms_of.items()]
    )
    assert networks._time(run, np.sqrt(0.5), "step") == pytest.approx(15)
    assert np.isnan(networks._time(slow, 1.0, "step"))
    assert numbers(table, "EXTRA-17.steps").tolist() == [1.0]
    assert numbers(table, "EXTRA-17.seconds", {"arms": ["s=1", "plain"]}).tolist() == [1.0]
    assert numbers(table, "EXTRA-17.steps", {"arms": ["s=0.5", "s=1"]}).isna().all()


def over_rates(gains: dict[float, float]) -> pd.DataFrame:
    rows = [("digits", arm, lr, 64, seed, 0, loss * (1 + 0.01 * seed), abs(np.log10(lr / 0.02)) + seed)
            for seed in range(10) for lr, gain in gains.items()
            for arm, loss in (("plain", 1.0), ("s=0.5", 1 / gain), ("rate-1.5", 1.0))]  # fmt: skip
    return pd.DataFrame(
        rows, columns="dataset arm lr batch seed branch train_loss valid_loss".split()
    )


def test_slopes_over_rates_and_batches_have_the_sign_of_the_trend():
    table = over_rates({0.02: 2.0, 0.2: 1.5, 2.0: 1.1})
    slope, control = numbers(table, "EXTRA-20"), numbers(table, "EXTRA-20", control_of("EXTRA-20"))
    assert len(slope) == 10 and (slope < 0).all() and np.allclose(control, 0)
    np.testing.assert_allclose(numbers(table, "EXTRA-28"), 0)
    np.testing.assert_allclose(numbers(table[table.lr > 0.02], "EXTRA-28"), 1)
    rows = [("digits", arm, batch, seed, 0, loss) for seed in range(10) for batch in (16, 64, 256)
            for arm, loss in (("plain", 1.0), ("s=0.5", 16 / batch))]  # fmt: skip
    table = pd.DataFrame(rows, columns="dataset arm batch seed branch train_loss".split())
    np.testing.assert_allclose(numbers(table, "EXTRA-18"), np.log10(2))


def test_a_rate_at_which_any_run_was_lost_is_no_point_of_the_slope_and_two_are_no_slope():
    table = over_rates({0.02: 2.0, 0.2: 1.5, 2.0: 1.1, 1.0: 100.0})
    table.loc[(table.lr == 1.0) & (table.arm == "rate-1.5") & (table.seed == 3), "train_loss"] = (
        np.nan
    )
    expected = numbers(over_rates({0.02: 2.0, 0.2: 1.5, 2.0: 1.1}), "EXTRA-20")
    pd.testing.assert_series_equal(numbers(table, "EXTRA-20"), expected)
    rows = judged("rate_curves", over_rates({0.02: 2.0, 0.2: 1.5}))
    assert rows.set_index("claim").verdict[["EXTRA-20", "EXTRA-28"]].tolist() == [
        "not tested",
        "reproduced",
    ]


@pytest.mark.parametrize(
    "more, expected", [(0.0, "reproduced"), (0.15, "contradicted"), (0.02, "inconclusive")]
)
def test_shares_of_starts_are_compared_by_set(more, expected):
    noise = np.random.Generator(np.random.Philox(5))
    rows = [("goldstein-price", arm, seed, 0, level + gain + 0.003 * noise.standard_normal())
            for seed, level in enumerate(noise.uniform(0.1, 0.3, 10))
            for arm, gain in (("adam", 0.0), ("GD+", more), ("gradient", more))]  # fmt: skip
    table = pd.DataFrame(rows, columns="dataset arm seed branch share".split())
    assert verdict(table, "EXTRA-B7", "basins").verdict == expected


def test_the_length_of_noise_is_told_from_that_of_a_signal():
    rows = [("digits", what, seed, 0, ratio * size, size) for what, ratio in (("noise", 1.0), ("quiet", 0.1))
            for seed, size in enumerate(np.linspace(1, 2, 10))]  # fmt: skip
    table = pd.DataFrame(rows, columns="dataset what seed branch extrapolation predicted".split())
    printed = pd.DataFrame({"dataset": "digits", "what": "printed", "seed": [0, 1], "branch": 0,
                            "changed": [0.001, 0.02], "length": [1e-8, 1e-9]})  # fmt: skip
    table = pd.concat(
        [table.assign(extrapolation=table.extrapolation * (1 + 0.01 * (table.seed % 3))), printed]
    )
    rows = judged("resolution", table)
    found = primary(rows, "EXTRA-B1.gain")
    assert (found.verdict, found.control_verdict, found.n) == ("reproduced", "fails", 10)
    share, length = (primary(rows, claim) for claim in ("X-12.share", "X-12.length"))
    assert (share.verdict, share.value) == ("not confirmed", 0.02)  # the largest of the seeds
    assert (length.verdict, length.value) == ("confirmed", 1e-8)


def wiggling(dataset: str, ends: dict[tuple[str, float], float]) -> pd.DataFrame:
    """A `paths` of one function: arms walk one to the right, with a bump at step 2, to distance
    `ends`.
    """
    steps = np.arange(0, 201)
    tables = [
        pd.DataFrame({"dataset": dataset, "arm": arm, "dt": dt, "step": steps,
                      "x": steps / 200, "y": 0.1 * (steps == 2),
                      "distance": np.where(steps == 2, 9.0, 4.0), "value": 50.0}).assign(
            distance=lambda table, end=end: table.distance.where(table.step < 200, end))
        for (arm, dt), end in ends.items()
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def test_figures_are_read_off_paths():
    ends = {
        ("adam", 0.0): 2.6e-3,
        ("GD+", 1e-4): 2.6e-3,
        ("GD+", 8e-4): 5.7e-6,
        ("gradient", 1e-4): 1.0,
    }
    found = toy_paths.derive(wiggling("beale", ends)).set_index("arm").loc["adam"]
    assert (found.maxima, found.variation, found["distance at 40"]) == (1, 2 * (3 - 2), 4.0)
    up, length = np.hypot(0.1, 1 / 200), 200 / 200
    assert found.detour == pytest.approx((2 * up + (length - 2 / 200)) / length)
    assert np.isnan(found["to local minimum"]) and found.value == 50.0
    rows = judged("paths", wiggling("beale", ends)).set_index("claim")
    names = ["EXTRA-24.adam", "EXTRA-24.plus", "EXTRA-24.lower", "X-15", "X-14.metric"]
    assert rows.verdict[names].tolist() == [
        "reproduced", "contradicted", "contradicted", "confirmed", "confirmed"
    ]  # fmt: skip
    swapped = {("GD+", 1e-4): 5.7e-6, ("GD+", 8e-4): 2.6e-3}
    rows = judged("paths", wiggling("beale", ends | swapped)).set_index("claim")
    assert rows.verdict[["EXTRA-24.plus", "EXTRA-24.lower", "X-15"]].tolist() == [
        "reproduced", "reproduced", "not confirmed"
    ]  # fmt: skip


def test_a_local_minimum_is_known_by_its_place():
    ends = {("adam", 0.0): 9e-7, ("GD+", 1e-5): 1.0, ("gradient", 1e-5): 1.0}
    table = wiggling("goldstein-price", ends)
    assert verdict(table, "EXTRA-25.stuck", "paths").verdict == "contradicted"
    table.loc[(table.arm == "GD+") & (table.step == 200), ["x", "y"]] = PROBLEMS[
        "goldstein-price"
    ].minima[1]
    found = verdict(table, "EXTRA-25.stuck", "paths")
    assert (found.verdict, found.control_verdict, found.value) == ("reproduced", "fails", 0.0)


def test_the_best_rate_is_looked_for_on_both_grids():
    rows = [("rosenbrock", arm, dt, lr, lr <= 0.1, abs(np.log10(lr / best)) + 1e-3 * (1 + dt))
            for arm, dt, best in (("adam", 0.0, 1.0), ("GD+", 1e-4, 0.1), ("gradient", 1e-4, 0.1))
            for lr in (0.001, 0.01, 0.1, 1.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns="dataset arm dt lr source distance".split())
    rows = judged("rate_search", table).set_index("claim")
    assert (
        rows.value["EXTRA-21"] == pytest.approx(10) and rows.verdict["EXTRA-21"] == "contradicted"
    )
    assert rows.value["X-14.edge"] == 1 and rows.verdict["X-14.edge"] == "confirmed"
    assert (
        rows.value["EXTRA-22.tuned"] == pytest.approx(np.log10(1 + 1e-4))
        and rows.control["EXTRA-22.tuned"]
    )
    at_the_table = table.assign(distance=np.where(table.lr == 0.1, 0.0, 1.0))
    assert (
        verdict(at_the_table[table.arm == "adam"], "EXTRA-21", "rate_search").verdict
        == "reproduced"
    )


def test_slopes_of_errors_are_those_of_their_powers():
    powers = {
        ("taylor", 3): 4,
        ("taylor", 2): 3,
        ("backward", 1): 1,
        ("bdf", 1): 3,
        ("central", 1): 2,
    }
    rows = [("quadratic", "sin", what, m, step, 7 * step**power)
            for (what, m), power in powers.items() for step in (0.01, 0.02, 0.04)]  # fmt: skip
    rows = judged(
        "orders", pd.DataFrame(rows, columns="dataset path what m step error".split())
    ).set_index("claim")
    assert rows.value["EXTRA-01"] == pytest.approx(4) and rows.control_value[
        "EXTRA-01"
    ] == pytest.approx(3)
    assert rows.value["EXTRA-02"] == pytest.approx(1) and rows.control_value[
        "EXTRA-02"
    ] == pytest.approx(2)
    assert rows.value["EXTRA-11.first"] == pytest.approx(2)


def test_nothing_on_networks_is_decided_at_smoke():
    table = judged("networks", curves(1.3), "smoke")
    assert set(table[table.verdict != "not tested"].kind) <= {"exact", "erratum"}


def test_every_claim_but_that_on_an_address_has_an_experiment():
    assert [each.id for each in CLAIMS if not each.experiments] == ["X-16"]


def test_tiny_settings_run_every_experiment_and_a_setting_is_named():
    for preset in ("smoke", "cpu", "gpu"):
        for entry, settings in presets.PRESETS[preset].items():
            small = SOURCE.tiny(settings)
            assert (small.dataset, small.model == "mlp") == (entry, settings.model == "mlp")
            assert (
                small.steps <= 200 and small.steps * small.batch < settings.steps * settings.batch
            )
    for settings in (SMALL, presets.TOYS["beale"]):
        for experiment in SOURCE.values():
            for tiny in experiment.chosen({settings.dataset: SOURCE.tiny(settings)}).values():
                if experiment.settings is None:
                    experiment(tiny)
    setting = {
        name: presets.setting(name, asdict(value)) for name, value in presets.PRESETS["cpu"].items()
    }
    assert (
        setting["digits"] == "stand-in: a perceptron on digits"
        and setting["beale"] == "the source's"
    )
    assert (
        presets.setting("beale", asdict(replace(presets.TOYS["beale"], lr=1.0))) != "the source's"
    )


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.0}, {"dt": -1.0}, {"dt": float("nan")}, {"seeds": ()}, {"seeds": (0, 1000)},
     {"arms": ("s=0.5",)}, {"searched": ("plain", "s=7")}, {"searched": ("s=0.5",)}, {"dataset": "mnist"},
     {"validation": 1.0}],
    ids=str,
)  # fmt: skip
def test_settings_refuse_what_cannot_be_run(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(presets.PRESETS["cpu"]["digits"], **change)


def test_the_cost_counts_each_run_once_an_arm_and_regime():
    one = replace(
        SMALL, arms=("plain",), searched=("plain",), regimes=("source",), seeds=(0,), batches=()
    )
    unit = SOURCE["networks"].operations(one)
    # 3 layers: 64 x 16, 16 x 16, 16 x 10; forward, backward by weights, backward by inputs but the
    # first layer's.
    assert unit == 20 * 64 * 2 * (3 * (64 * 16 + 16 * 16 + 16 * 10) - 64 * 16)
    assert (
        SOURCE["networks"].operations(replace(one, seeds=(0, 1), arms=("plain", "double")))
        == 6 * unit
    )
    assert SOURCE["search"].operations(one) == 2 * unit
    assert SOURCE["search"].operations(replace(one, batches=(16,))) == 2 * unit * (64 + 32) / 64
