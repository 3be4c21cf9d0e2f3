"""What a slider shows is what the formula, or the recorded table, says at that value."""

import itertools
import re
import time

import numpy as np
import pytest

from replicate.app import explore, registry

SECONDS = 0.1  # within which a slider is answered


def read(name):
    return registry.read_largest(registry.source("sandler2023trajectories"), name, "smoke")


@pytest.fixture(scope="module")
def recorded():
    return {name: read(name) for name in ("spectrum", "figure_2", "figure_5")}


@pytest.fixture(scope="module")
def explorers(recorded):
    return {
        "lookahead": explore.lookahead(),
        "extrapolation": explore.extrapolation(),
        "kernels": explore.kernels(recorded["spectrum"]),
        "step_lengths": explore.step_lengths(recorded["figure_2"]),
    }


NAMES = ("lookahead", "extrapolation", "kernels", "step_lengths")


def said(explorer, **values) -> list[float]:
    """The numbers in the sentence above the picture."""
    explorer.answer(**values)
    (text,) = (text.get_text() for text in explorer.figure.texts)
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def curve(ax, label: str):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line.get_xydata().T


def corners(explorer) -> list[dict]:
    """The first and the last value of every control, with each other."""
    ends = [[(name, values[at]) for at in (0, -1)] for name, values in explorer.choices.items()]
    return [dict(corner) for corner in itertools.product(*ends)]


@pytest.mark.parametrize("name", NAMES)
def test_a_slider_is_answered_at_once(explorers, name):
    for corner in corners(explorers[name]):
        taken = []
        for _ in range(3):  # the machine may be busy with something else meanwhile
            begun = time.perf_counter()
            explorers[name].answer(**corner)
            taken.append(time.perf_counter() - begun)
        assert min(taken) < SECONDS, corner


def states(figure) -> dict:
    """What is drawn of every line and text but the axes' own numbers."""
    lines = {line: line.get_xydata().tobytes() for ax in figure.axes for line in ax.lines}
    return lines | {text: text.get_text() for text in figure.texts}


@pytest.mark.parametrize("name", NAMES)
def test_all_that_changes_is_drawn_anew(explorers, name):
    """An artist that moves, but not as one that moves, would stay on the picture as it was."""
    explorers[name].answer()
    before = states(explorers[name].figure)
    moved = set()
    for corner in corners(explorers[name]):
        explorers[name].answer(**corner)
        after = states(explorers[name].figure)
        moved |= {artist for artist in before if after[artist] != before[artist]}
    assert len(moved) > 2
    assert all(artist.get_animated() for artist in moved)


@pytest.mark.parametrize("k, alpha", [(5, 0.5), (1, 0.3), (20, 0.8)])
def test_lookahead_at_any_k_and_alpha_is_its_two_loops(explorers, k, alpha):
    x, mean, slow = 0.3, 1.0, 0.0
    for _ in range(300):  # cycles: k steps from the slow weights, and a pull
        fast_mean, fast, mixed = mean, slow, slow  # mixed: covariance of fast and slow weights
        for _ in range(k):
            fast_mean *= 1 - x
            fast = (1 - x) ** 2 * fast + x**2
            mixed *= 1 - x
        slow = (1 - alpha) ** 2 * slow + alpha**2 * fast + 2 * alpha * (1 - alpha) * mixed
        before, mean = mean, (1 - alpha) * mean + alpha * fast_mean
    one = 1.0
    for _ in range(300):
        one = (1 - x) ** 2 * one + x**2
    numbers = said(explorers["lookahead"], k=k, alpha=alpha)
    share = (mean / before) ** (1 / k)
    assert numbers == pytest.approx([k, alpha, x, slow / one, share, 0.7], abs=6e-4)


def test_lookahead_that_pulls_all_the_way_is_sgd(explorers):
    explorers["lookahead"].answer(k=7, alpha=1.0)
    left, right = explorers["lookahead"].figure.axes
    x, variance = curve(left, "Lookahead")
    assert variance == pytest.approx(np.ones(len(x)))
    assert curve(right, "Lookahead")[1] == pytest.approx(np.abs(1 - x))


def runs_away(s: float, order: int, x: float) -> bool:
    """Whether descent with an extrapolation of this order grows, step by step from a start."""
    # The polynomial through the last order + 1 states, in the steps between them.
    states = range(order + 1)
    weights = [np.prod([(s + j) / (j - i) for j in states if j != i]) for i in states]
    ahead = [sum(weights[: j + 1]) - 1 for j in range(order)]
    steps, w, sizes = [0.0] * 3, 1.0, []
    for _ in range(3000):
        steps = [-x * w, *steps[:-1]]
        w += steps[0] + sum(c * d for c, d in zip(ahead, steps, strict=False))
        sizes.append(abs(w))
    return max(sizes[-50:]) > max(sizes[1000:1050])


@pytest.mark.parametrize("s", [0.05, 0.5, 2.0])
def test_the_stable_region_is_where_the_method_stays(explorers, s):
    _, *edges = said(explorers["extrapolation"], s=s)
    assert edges[0] == pytest.approx(2 / (1 + s), abs=6e-4)
    for order, edge in zip((1, 2, 3), edges, strict=True):
        assert not runs_away(s, order, edge - 4e-3) and runs_away(s, order, edge + 4e-3)


def test_without_extrapolation_the_edge_is_that_of_sgd(explorers):
    assert said(explorers["extrapolation"], s=0.0) == pytest.approx([0, 2, 2, 2], abs=6e-4)


def test_predicted_losses_are_those_on_record(recorded):
    losses = explore.predict_losses(recorded["spectrum"])
    spectrum = recorded["spectrum"]
    first = spectrum[spectrum.dataset == spectrum.dataset.iloc[0]]  # which is the one that is shown
    ends = first[first.what == "end"]
    means = ends.groupby(["arm", "kernel", "k"]).train_loss.mean()
    for arm in ("average", "side-trip"):
        on_record = means[f"predicted {arm}"]
        assert len(on_record) == 12
        for (kernel, k), loss in on_record.items():
            assert losses[arm][kernel, int(k)] == pytest.approx(loss, rel=2e-4)
    raw = ends[ends.arm == "predicted raw"].train_loss.mean()
    assert losses.raw.to_numpy() == pytest.approx(raw, rel=2e-4)


def test_kernel_and_window_show_schedule_and_losses(explorers, recorded):
    losses = explore.predict_losses(recorded["spectrum"])
    window, average, trip, raw = said(explorers["kernels"], kernel="swa", window=50)
    at = losses.loc[("swa", 50)]
    assert [window, average, trip, raw] == pytest.approx([50, at.average, at["side-trip"], at.raw], rel=6e-3)  # fmt: skip
    left, right = explorers["kernels"].figure.axes
    steps, rates = left.lines[0].get_data()
    assert rates == pytest.approx([*np.linspace(1, 1 / 50, 50), 0]) and steps[-1] == 51
    explorers["kernels"].answer(kernel="two-point", window=20)
    assert left.lines[0].get_ydata() == pytest.approx([0.5] * 20 + [0])
    assert curve(right, "side-trip")[1] == pytest.approx(
        losses["side-trip"]["two-point"].to_numpy()
    )


def test_a_step_s_length_shows_the_recorded_losses(explorers, recorded):
    table = recorded["figure_2"]
    table = table[(table.what == "curve") & (table.norm == "batch") & (table.seed == 0)]
    table = table[(table.dataset == "digits-batches") & (table.stage == "late")]
    at = {step: table[table.step.round(6) == step].set_index("bs") for step in (0, 0.5, 2.5)}
    for step in (0.5, 2.5):
        numbers = said(explorers["step_lengths"], stage="late", batch=64, step=step)
        start, end = (at[place].loc[64, ["loss", "held"]].tolist() for place in (0, step))
        assert numbers == pytest.approx([64, step, start[0], end[0], start[1], end[1]], abs=6e-3)
        right = explorers["step_lengths"].figure.axes[1]
        for column, name in {"loss": "the step's own batch", "held": "held-out batches"}.items():
            sizes, changes = curve(right, name)
            assert list(sizes) == [16, 64, 256, 1024]
            assert changes == pytest.approx((at[step][column] - at[0][column]).to_numpy())


def test_a_table_without_what_is_shown_is_refused(recorded):
    ends = recorded["spectrum"][recorded["spectrum"].what == "end"]
    draws = recorded["figure_2"][recorded["figure_2"].what == "draw"]
    with pytest.raises(ValueError, match="directions that settle, got none"):
        explore.kernels(ends)
    with pytest.raises(ValueError, match="must have curves, got none"):
        explore.step_lengths(draws)


def test_nothing_recorded_is_said_and_what_is_recorded_is_explored(recorded):
    table = recorded["spectrum"]
    assert explore.show_recorded(len, table.iloc[:0]).data == "Nothing is recorded yet."
    assert explore.show_recorded(len, table) == len(table)
