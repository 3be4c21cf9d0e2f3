"""One step and nine on fixed mini-batches, by plain loops on a small ResNet with BatchNorm: every
stage, curve, line and number of Figures 2, 3, 12 and 13.
"""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from replicate import datasets, models
from replicate.sources.images import DRAWS, NORM
from replicate.sources.sandler2023trajectories import _branches, _fixed_batches, figure_2, figure_3
from replicate.sources.sandler2023trajectories.presets import PRESETS, tiny

SETTINGS = replace(
    tiny(PRESETS["cpu"]["digits-batches"]), model="resnet8", width=2, stem="cifar", flip=True, pad=1, batch=16, lr=0.1,
    warmup=3, weight_decay=0.01, first_branch=24, branch_every=8, two_point=(8,), swa=(8,), ema=(8,), controls=(),
    last_windows=(), early=(6,), batch_sizes=(8, 48), draws=2, even_steps=8, small_steps=6, estimated=1, held_out=48,
    held_batches=4, held_batch=16, step_gradients=12, products=3, curvature_batches=2, directions=0,
)  # fmt: skip
FIXED, NOISE = DRAWS + 2, DRAWS + 1


@pytest.fixture(scope="module", autouse=True)
def coloured():
    """Digits in three colours: a ResNet takes no grey image."""
    found, tint = datasets.load("digits"), np.array([1.0, 0.6, 0.3])

    def paint(x):
        return np.round(x * tint).astype(np.uint8)

    found = replace(found, train_x=paint(found.train_x), test_x=paint(found.test_x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name: found)
        yield found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where the main run and its stages were left."""
    main, stages = tmp_path_factory.mktemp("main"), tmp_path_factory.mktemp("stages")
    _branches.main_run(SETTINGS.main_run, {"seed": 3}, main, [], "cpu")
    table = _fixed_batches.leave_stages(SETTINGS, {"seed": 3}, stages, [main], "cpu")
    return stages, table


@pytest.fixture(scope="module")
def twin(coloured):
    return Twin(coloured)


class Twin:
    """The same with plain torch: no surfaces, no shared search for steps."""

    def __init__(self, found):
        noise = {"pixel_noise": SETTINGS.pixel_noise, "label_noise": SETTINGS.label_noise}
        self.data = datasets.Batches(found.train_x, found.train_y, 16, 10, "cpu", 1, True, **noise)
        self.net = models.resnet8(10, 3, 2, "cifar")
        self.reserve = self.data.tables(3, FIXED, 0)["order"][:48].tolist()
        self.in_double = copy.deepcopy(self.net).double()
        self.stages = self._train()
        self.held = [self.rows(j, self.reserve[16 * j % 48 :][:16]) for j in range(4)]

    def _train(self) -> dict:
        """Weights by stage: SGD at 0.1 after a warm-up of three steps, then 8 steps to rate 0."""
        net = self.net
        start = self.read(net)
        sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        path = [start]
        for step in range(32 + 8):
            rate = 0.1 * min(1, (step + 1) / 3)
            sgd.param_groups[0]["lr"] = rate * (1 if step < 32 else (40 - step) / 8)
            x, y = self.data.batch(3, 0, step)
            sgd.zero_grad()
            functional.cross_entropy(net(x), y).backward()
            sgd.step()
            path.append(self.read(net))
        names = {"start": 0, "step 6": 6, "late": 24, "later": 32, "cooled": 40}
        return {name: path[step] for name, step in names.items()}

    @staticmethod
    def read(net) -> torch.Tensor:
        return torch.cat([p.detach().reshape(-1) for p in net.parameters()]).double()

    def rows(self, epoch: int, wanted=None, size: int | None = None):
        """The images of an epoch in its order: those that are wanted, or the first not in reserve."""
        tables = self.data.tables(3, FIXED, epoch)
        keep = (lambda i: i in wanted) if wanted is not None else (lambda i: i not in self.reserve)
        rows = [place for place, i in enumerate(tables["order"].tolist()) if keep(i)][:size]
        return self.data.gather({name: table[rows] for name, table in tables.items()})

    def at(self, weights: torch.Tensor):
        """The network at these weights, in double precision, until it is asked for others."""
        net = self.in_double
        net.zero_grad()
        torch.nn.utils.vector_to_parameters(weights, net.parameters())
        return net

    @torch.no_grad()
    def loss(self, weights, batch, norm: str = "batch") -> float:
        """Mean over images; each 16 of them are normalised together, or all by other batches."""
        net, (x, y) = self.at(weights), batch
        if norm == "re-estimated":
            self.estimate(net)
            return float(functional.cross_entropy(net.eval()(x.double()), y))
        chunks = [(x[i : i + 16], y[i : i + 16]) for i in range(0, len(y), 16)]
        losses = [
            functional.cross_entropy(net.train()(a.double()), b, reduction="sum") for a, b in chunks
        ]
        return float(sum(losses)) / len(y)

    def estimate(self, net) -> None:
        """Plain means over SETTINGS.estimate_batches mini-batches of 16 that nobody trains on."""
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        for step in range(SETTINGS.estimate_batches):
            net.train()(self.data.batch(0, NORM, step)[0].double())

    def held_loss(self, weights, norm: str = "batch") -> np.ndarray:
        return np.array([self.loss(weights, batch, norm) for batch in self.held])

    def gradient(self, weights, batch) -> torch.Tensor:
        net, (x, y) = self.at(weights).train(), batch
        for i in range(0, len(y), 16):
            part = functional.cross_entropy(net(x[i : i + 16].double()), y[i : i + 16])
            (part * len(y[i : i + 16]) / len(y)).backward()
        return torch.cat([p.grad.reshape(-1) for p in net.parameters()])


@pytest.fixture(scope="module")
def table(folders):
    where, _ = folders
    return figure_2.measure_stage(
        SETTINGS, {"seed": 3, "stage": "late"}, where / "none", [where], "cpu"
    )


def test_stages_are_those_of_a_plain_loop(folders, twin):
    stages, rows = folders
    bench = _fixed_batches.Bench.load(SETTINGS, 3, stages, "cpu")
    assert rows.set_index("stage").step.to_dict() == {
        "start": 0, "step 6": 6, "late": 24, "later": 32, "cooled": 40,
    }  # fmt: skip
    for name, weights in twin.stages.items():
        torch.testing.assert_close(bench.stages[name].double(), weights, rtol=0, atol=2e-4)
    assert float((twin.stages["cooled"] - twin.stages["later"]).abs().max()) > 0.01


@pytest.mark.parametrize("size, draw", [(8, 0), (8, 1), (48, 0), (48, 1)])
def test_a_draw_is_read_off_plain_curves(table, folders, twin, size, draw):
    """The batch's own loss and the held-out one along its gradient, on a fine grid."""
    (row,) = table[(table.what == "draw") & (table.bs == size) & (table.draw == draw)].to_dict(
        "records"
    )
    weights = twin.stages["late"]
    batch = twin.rows(draw, size=size)
    gradient = twin.gradient(weights, batch)
    grid = np.linspace(0, 4.5 * row["minimiser"], 181)
    own = np.array([twin.loss(weights - e * gradient, batch) for e in grid])
    held = np.array([twin.held_loss(weights - e * gradient).mean() for e in grid])
    best = int(own[:121].argmin())
    assert row["start"] == pytest.approx(own[0], rel=1e-3)
    assert row["held_start"] == pytest.approx(held[0], rel=1e-3)
    assert row["least"] == pytest.approx(own[:121].min(), abs=0.02 * np.ptp(own[:121]))
    assert row["rise"] == pytest.approx(held[best] - held[0], abs=0.1 * np.ptp(held[:121]))
    assert row["cooled"] == pytest.approx(twin.held_loss(twin.stages["cooled"]).mean(), rel=1e-3)
    even = np.linspace(0, 2 * row["minimiser"], 9)
    for name, y, degree in (("", own, 2), ("held_", held, 4)):
        values = np.interp(even, grid, y)
        powers = np.vander(even / even[-1], degree + 1)
        rest = values - powers @ np.linalg.lstsq(powers, values, rcond=None)[0]
        assert row[f"{name}fit"] == pytest.approx(1 - rest.var() / values.var(), abs=0.02)


def test_the_curve_of_a_first_draw_is_a_plain_one(table, twin):
    curve = table[(table.what == "curve") & (table.bs == 48)]
    (row,) = table[(table.what == "draw") & (table.bs == 48) & (table.draw == 0)].to_dict("records")
    weights, batch = twin.stages["late"], twin.rows(0, size=48)
    gradient = twin.gradient(weights, batch)
    for step in curve.itertuples():
        at = weights - step.step * row["minimiser"] * gradient
        held = twin.held_loss(at)
        assert step.loss == pytest.approx(twin.loss(at, batch), rel=2e-3, abs=1e-3)
        expected = (held.mean(), held.std(), held.min(), held.max())
        np.testing.assert_allclose(step[-4:], expected, rtol=5e-3, atol=2e-3)
    assert len(curve) == 1 + 6 + 8 + 5 and curve.held.max() > 1.05 * curve.held.iloc[0]


def test_re_estimated_losses_are_in_evaluation_mode_with_new_statistics(folders, twin):
    """Settings that take a draw of the size that the run trains with."""
    where, _ = folders
    settings = replace(SETTINGS, batch_sizes=(16,), draws=1)
    rows = figure_2.measure_stage(
        settings, {"seed": 3, "stage": "late"}, where / "none", [where], "cpu"
    )
    draws = rows[rows.what == "draw"].set_index("norm")
    weights, batch = twin.stages["late"], twin.rows(0, size=16)
    for norm in ("batch", "re-estimated"):
        assert draws.start[norm] == pytest.approx(twin.loss(weights, batch, norm), rel=1e-3)
        assert draws.held_start[norm] == pytest.approx(
            twin.held_loss(weights, norm).mean(), rel=1e-3
        )
    assert draws.start["re-estimated"] != pytest.approx(draws.start["batch"], rel=4e-3)
    end = weights - draws.minimiser["re-estimated"] * twin.gradient(weights, batch)
    curve = rows[(rows.what == "curve") & (rows.norm == "re-estimated") & (rows.step == 1)]
    assert float(curve.loss.iloc[0]) == pytest.approx(
        twin.loss(end, batch, "re-estimated"), rel=5e-3
    )


def test_noise_and_curvature_are_those_of_gradients_that_are_kept(table, twin):
    (row,) = table[table.what == "noise"].to_dict("records")
    weights = twin.stages["late"]

    def batch(step):
        return twin.data.batch(3, NOISE, step)

    kept = torch.stack([twin.gradient(weights, batch(step)) for step in range(12)])
    mean, trace = kept.mean(0), float(kept.var(0).sum())
    assert row["trace"] == pytest.approx(trace, rel=2e-3)
    assert row["squared_mean"] == pytest.approx(float(mean @ mean) - trace / 12, rel=2e-2)
    h = 1e-4

    def bend(direction):
        """g.H g by a central difference of the mean loss of two mini-batches."""
        unit = direction / direction.norm()
        losses = [
            sum(twin.loss(weights + s * h * unit, batch(12 + j)) for j in range(2)) / 2
            for s in (-1, 0, 1)
        ]
        return (losses[0] - 2 * losses[1] + losses[2]) / h**2 * float(direction @ direction)

    along = np.mean([bend(twin.gradient(weights, batch(14 + j))) for j in range(3)])
    assert row["along_batch"] == pytest.approx(along, rel=0.02)
    assert row["along_mean"] == pytest.approx(bend(mean) - (along - bend(mean)) / 11, rel=0.02)


@pytest.fixture(scope="module")
def lines(folders):
    where, _ = folders
    return figure_3.descend(SETTINGS, {"seed": 3}, where / "none", [where], "cpu")


def test_lines_lie_between_the_ends_of_plain_descents(lines, twin):
    batch = twin.rows(0, size=16)
    rows = lines[lines.norm == "batch"].set_index(["line", "steps", "place"]).sort_index()
    step = _recover_step(rows, twin, batch)
    paths = {}
    for end in ("late", "later"):
        path = [twin.stages[end]]
        for _ in range(9):
            path.append(path[-1] - step * twin.gradient(path[-1], batch))
        paths[end] = path
    for t in (0, 1, 3):
        for a in (0.0, 0.3, 1.0):
            at = (1 - a) * paths["late"][t] + a * paths["later"][t]
            row = rows.xs(("descents", t)).iloc[round(10 * a)]
            assert row.loss == pytest.approx(twin.loss(at, batch), rel=2e-2)
            assert row.held == pytest.approx(twin.held_loss(at).mean(), rel=2e-2)
    start = rows.xs(("start", 9)).iloc[0]
    assert start.held == pytest.approx(twin.held_loss(twin.stages["start"]).mean(), rel=1e-3)


def _find_best_step(twin, batch) -> float:
    """Where a parabola through the lowest of 24 step sizes, each 1.25 times the one before, and its
    neighbours has its minimum: to about a hundredth.
    """
    weights = twin.stages["late"]
    gradient = twin.gradient(weights, batch)
    grid = 0.1 * 1.25 ** np.arange(24)
    curve = np.array([twin.loss(weights - e * gradient, batch) for e in grid])
    low = int(np.argmax(np.diff(curve) > 0))  # the first minimum
    assert 0 < low < len(grid) - 1
    near = slice(low - 1, low + 2)
    a, b, _ = np.polyfit(grid[near], curve[near], 2)
    return float(-b / (2 * a))


def _recover_step(rows, twin, batch) -> float:
    """The step size that the run took, within a factor of 2 of the best one: that which gives its
    losses after a step, on the batch and on held-out ones.
    """
    row = rows.xs(("descents", 1)).iloc[0]
    weights = twin.stages["late"]
    gradient = twin.gradient(weights, batch)

    def gap(step: float) -> float:
        end = weights - step * gradient
        return abs(twin.loss(end, batch) - row.loss) + abs(twin.held_loss(end).mean() - row.held)

    step, reach = _find_best_step(twin, batch), 2.0
    for _ in range(3):  # 15 step sizes, then 15 about the best of them
        grid = step * np.geomspace(1 / reach, reach, 15)
        gaps = [gap(e) for e in grid]
        step, reach = float(grid[int(np.argmin(gaps))]), reach ** (1 / 6)
    assert min(gaps) < 3e-3
    return step


def test_scatter_is_of_held_out_profiles_without_their_means(lines, twin):
    rows = lines[(lines.norm == "batch") & (lines.line == "descents") & (lines.steps == 0)]
    places = np.linspace(0, 1, 11)
    late, later = twin.stages["late"], twin.stages["later"]
    held = np.array([twin.held_loss(late + a * (later - late)) for a in places])
    expected = (held - held.mean(0)).std(1, ddof=1)
    np.testing.assert_allclose(rows.sort_values("place").scatter, expected, rtol=0.05, atol=1e-4)


def test_reordered_units_have_the_loss_of_the_second_end_and_a_barrier(lines):
    rows = lines[lines.norm == "batch"]
    same = rows[(rows.line == "descents") & (rows.steps == 9)].sort_values("place")
    other = rows[rows.line == "reordered units"].sort_values("place")
    assert other.loss.iloc[[0, -1]].tolist() == pytest.approx(
        same.loss.iloc[[0, -1]].tolist(), rel=1e-3
    )
    assert other.held.iloc[5] != pytest.approx(same.held.iloc[5], rel=0.01)


def test_other_batches_are_nine_different_ones(lines, twin):
    """From the late stage, with the step of the descents, on draws that no trip has."""
    rows = lines[lines.norm == "batch"].set_index(["line", "steps", "place"]).sort_index()
    batch = twin.rows(0, size=16)
    step = _recover_step(rows, twin, batch)
    weights = twin.stages["late"]
    for t in range(9):
        other = twin.rows(SETTINGS.trips + t, size=16)
        weights = weights - step * twin.gradient(weights, other)
    end = rows.xs(("other batches", 9)).iloc[0]
    assert end.held == pytest.approx(twin.held_loss(weights).mean(), rel=0.05)


def test_a_run_that_was_stopped_goes_on_with_the_draws_that_are_left(folders, tmp_path, table):
    where, _ = folders
    from replicate.runs import keep_rows

    tmp_path.mkdir(exist_ok=True)
    keep_rows(tmp_path, table.to_dict("records")[:-3])
    whole = table[table.what != "curve"]
    done = len(whole) - 1
    rows = whole.to_dict("records")[:done]
    keep_rows(tmp_path, rows)
    again = figure_2.measure_stage(SETTINGS, {"seed": 3, "stage": "late"}, tmp_path, [where], "cpu")
    again = again[again.what != "curve"].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, whole.reset_index(drop=True), check_like=True, rtol=1e-9)


def test_the_largest_batch_fits_beside_the_held_out_images():
    with pytest.raises(ValueError, match="a batch of 1400 and 48 held-out images"):
        replace(SETTINGS, batch_sizes=(8, 1400))
