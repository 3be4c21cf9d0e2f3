"""What sliders show in the notebooks: exact formulas and recorded tables, asked at other values.

Nothing is trained here. A function makes an `Explorer`, which a cell shows; what takes longer than a
slider may wait is computed once, when the cell is run.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from replicate import averaging, problems
from replicate.optim.stencils import step_coefficients
from replicate.plots.arms import BLUE, GREEN, GREY, ORANGE
from replicate.plots.interactive import Explorer, place_axes

OVER_RANGE = np.linspace(0.01, 1.99, 199)  # rate times curvature, where SGD is stable
READ_AT = 0.3  # rate times curvature of the numbers above the picture
ALPHA_CHOICES = tuple(round(alpha, 2) for alpha in np.linspace(0.05, 1, 20))
S_CHOICES = tuple(round(s, 2) for s in np.linspace(0, 2, 41))  # s of an extrapolation
ORDER_LOOKS = {
    1: ("first order: rate (1 + s) times", GREY),
    2: ("second order", ORANGE),
    3: ("third order", BLUE),
}
OVER_EDGES = np.linspace(0.005, 2.1, 420)
WINDOW_CHOICES = (10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 3000)
KERNEL_CHOICES = {"swa": averaging.swa, "two-point": averaging.two_point, "ema": averaging.ema}
STEP_CHOICES = tuple(
    round(step, 2) for step in np.linspace(0, 2.5, 51)
)  # over the batch's best one


def show_recorded(explore: Callable[[pd.DataFrame], Explorer], table: pd.DataFrame):
    """The explorer of a recorded table, as a cell shows it, or a line where nothing is recorded."""
    from IPython.display import Markdown

    return Markdown("Nothing is recorded yet.") if table.empty else explore(table)


def lookahead() -> Explorer:
    """Proposition 2 at any k and alpha: variance of the slow weights over SGD's at the same rate
    (left), and the share of the mean that a step leaves (right), by rate times curvature.

    >>> sorted(lookahead().choices)
    ['alpha', 'k']
    """
    x = OVER_RANGE
    sgd = problems.sgd_variance(x, x**2)
    figure, (left, right) = place_axes()
    left.axhline(1, color="0.7", linewidth=1)
    left.set(yscale="log", xlim=(0, 2), ylim=(2e-3, 3))
    left.set(xlabel="rate times curvature", ylabel="variance / SGD's")
    right.plot(x, np.abs(1 - x), color=GREY, linestyle="--", label="SGD")
    right.set(xlim=(0, 2), ylim=(0, 1.05))
    right.set(xlabel="rate times curvature", ylabel="mean left by a step")
    variance, matched = _line(left, ORANGE, "Lookahead"), _line(left, GREEN, "SGD, as fast a mean")
    left_over = _line(right, ORANGE, "Lookahead")
    dot, sentence = _dot(left, ORANGE), _sentence(left)
    left.legend(frameon=False, fontsize="small", loc="lower left")
    right.legend(frameon=False, fontsize="small", loc="lower right")

    def move(k: int, alpha: float) -> list[Artist]:
        of_slow = problems.lookahead_variance(x, alpha, k, x**2) / sgd
        at = problems.match_rate(x, alpha, k)
        variance.set_data(x, of_slow)
        matched.set_data(x, problems.sgd_variance(at, at**2) / sgd)
        share = np.abs(problems.slow_factor(x, alpha, k)) ** (1 / k)
        left_over.set_data(x, share)
        dot.set_data([READ_AT], [np.interp(READ_AT, x, of_slow)])
        of_variance, of_mean = (np.interp(READ_AT, x, each) for each in (of_slow, share))
        sentence.set_text(
            f"k = {k}, alpha = {alpha:g}; at {READ_AT:g}: variance {of_variance:.3f} of SGD's, "
            f"a step leaves {of_mean:.3f} of the mean (SGD: {1 - READ_AT:.3f})"
        )
        return [variance, matched, left_over, dot, sentence]

    return Explorer(figure, {"k": (range(1, 21), 5), "alpha": (ALPHA_CHOICES, 0.5)}, move)


def extrapolation() -> Explorer:
    """The factor by which descent with an extrapolation by s grows a step in the long run, by rate
    times curvature (left), and the edge up to which it does not, by s (right).

    >>> extrapolation().start
    {'s': 0.5}
    """
    radii = {s: {order: _radius(s, order) for order in ORDER_LOOKS} for s in S_CHOICES}
    edges = {order: [find_edge(radii[s][order]) for s in S_CHOICES] for order in ORDER_LOOKS}
    figure, (left, right) = place_axes()
    left.axhspan(0, 1, color="0.94")
    left.plot(OVER_EDGES, np.abs(1 - OVER_EDGES), color="black", linestyle=":", label="SGD")
    left.set(ylim=(0, 2), xlim=(0, 2.1), xlabel="rate times curvature", ylabel="factor of a step")
    right.set(xlabel="s = dt / h", ylabel="largest stable rate x curvature", ylim=(0, 2.05))
    moving = {order: _line(left, colour, name) for order, (name, colour) in ORDER_LOOKS.items()}
    dots = {order: _dot(right, colour) for order, (_, colour) in ORDER_LOOKS.items()}
    for order, (_, colour) in ORDER_LOOKS.items():
        right.plot(S_CHOICES, edges[order], color=colour)
    right.legend(
        *left.get_legend_handles_labels(), frameon=False, fontsize="small", loc="upper right"
    )
    sentence = _sentence(left)

    def move(s: float) -> list[Artist]:
        at = {order: edges[order][S_CHOICES.index(s)] for order in ORDER_LOOKS}
        for order in ORDER_LOOKS:
            moving[order].set_data(OVER_EDGES, radii[s][order])
            dots[order].set_data([s], [at[order]])
        ends = ", ".join(f"{edge:.3f}" for edge in at.values())
        sentence.set_text(f"s = {s:g}: stable up to {ends} (first, second, third order)")
        return [*moving.values(), *dots.values(), sentence]

    return Explorer(figure, {"s": (S_CHOICES, 0.5)}, move)


def _radius(s: float, order: int) -> np.ndarray:
    return problems.spectral_radius(step_coefficients(s, order), OVER_EDGES)


def find_edge(radius: np.ndarray) -> float:
    """The rate times curvature at which a radius over OVER_EDGES first passes 1, between two points
    in proportion; the last point if it does not.

    >>> round(find_edge(abs(1 - OVER_EDGES)), 3)
    2.0
    """
    above = np.flatnonzero(radius > 1 + 1e-9)
    if not len(above):
        return float(OVER_EDGES[-1])
    place = above[0]
    if place == 0:
        return float(OVER_EDGES[0])
    return float(np.interp(1, radius[place - 1 : place + 1], OVER_EDGES[place - 1 : place + 1]))


def kernels(spectrum: pd.DataFrame) -> Explorer:
    """The schedule that a kernel stands for (left), and what average and side-trip are predicted to
    leave above the minimum over a measured spectrum (right), by window.

    spectrum: what `spectrum` gives, with its settings as attributes, of which the first data set is
    shown; means over its seeds. Raises ValueError on a table without directions.
    """
    losses = predict_losses(spectrum)
    figure, (left, right) = place_axes()
    left.set(xscale="log", xlim=(1, WINDOW_CHOICES[-1] * 1.2), ylim=(-0.03, 1.05))
    left.set(xlabel="step of the side-trip", ylabel="rate over the run's")
    lines = {
        "average": _line(right, BLUE, "average"),
        "side-trip": _line(right, ORANGE, "side-trip"),
    }
    dots = {name: _dot(right, line.get_color()) for name, line in lines.items()}
    raw = losses["raw"].iloc[0]
    right.axhline(raw, color=GREY, linestyle=":", label="the run's own end")
    right.set(xscale="log", yscale="log", ylim=(losses.average.min() / 2, 2 * raw))
    right.set(xlabel="window k [steps]", ylabel="predicted loss [nats]")
    right.set_xlim(WINDOW_CHOICES[0] / 1.2, WINDOW_CHOICES[-1] * 1.2)
    right.legend(frameon=False, fontsize="small", loc="lower left")
    schedule, sentence = left.plot([], [], color=GREEN, drawstyle="steps-post")[0], _sentence(left)

    def move(kernel: str, window: int) -> list[Artist]:
        rates = averaging.kernel_weights(KERNEL_CHOICES[kernel](window))
        schedule.set_data(np.arange(1, window + 2), [*rates, 0])
        curve, at = losses.loc[kernel], losses.loc[(kernel, window)]
        for name, line in lines.items():
            line.set_data(curve.index, curve[name])
            dots[name].set_data([window], [at[name]])
        numbers = ", ".join(f"{name} {at[name]:.2e}" for name in lines)
        sentence.set_text(f"{kernel}, {window} steps: {numbers}, the run itself {raw:.2e} nats")
        return [schedule, *lines.values(), *dots.values(), sentence]

    return Explorer(
        figure, {"kernel": (KERNEL_CHOICES, "swa"), "window": (WINDOW_CHOICES, 100)}, move
    )


def predict_losses(spectrum: pd.DataFrame) -> pd.DataFrame:
    """Nats above the minimum by (kernel, window): columns average, side-trip, raw; means over seeds.

    spectrum: as `kernels` takes it. Only directions that settle count.
    """
    rows = spectrum[(spectrum.what == "direction") & spectrum.predicted.notna()]
    rows = rows[rows.dataset == rows.dataset.iloc[0]] if len(rows) else rows
    if rows.empty:
        raise ValueError("the table must have directions that settle, got none")
    settings = spectrum.attrs["settings"][rows.key.iloc[0]]
    kappa, noise = rows.curvature.to_numpy(), rows.noise.to_numpy()
    model = _Model(kappa, noise, settings["lr"], settings["momentum"], rows.seed.nunique())
    table = {
        (name, k): {"average": model.predict(kernel(k)), "side-trip": model.predict(kernel(k), trip=True)}
        for name, kernel in KERNEL_CHOICES.items()
        for k in WINDOW_CHOICES
    }  # fmt: skip
    return pd.DataFrame(table).T.assign(raw=model.predict(problems.weigh_last(1)))


class _Model:
    """Heavy ball along the directions of all seeds, settled."""

    def __init__(self, kappa, noise, rate: float, momentum: float, seeds: int):
        self.kappa, self.noise = kappa, noise
        self.rate, self.momentum, self.seeds = rate, momentum, seeds
        self.moments = problems.stationary_moments(kappa, noise, rate, momentum)

    def predict(self, mu: np.ndarray, trip: bool = False) -> float:
        """The mean over seeds of what an average leaves, or its side-trip."""
        k = len(mu) - 1
        rates = self.rate * (averaging.kernel_weights(mu) if trip else np.ones(k))
        weights = problems.weigh_last(k) if trip else mu
        losses = problems.predict_loss(
            self.kappa, self.noise, rates, self.momentum, weights, self.moments
        )
        return float(losses.sum() / self.seeds)


def step_lengths(figure_2: pd.DataFrame) -> Explorer:
    """Loss along one step, on the batch that gave its direction and on held-out ones (left), and by
    size of the batch what a step of this length changes (right).

    figure_2: what that experiment gives, of which the first seed's first draws on the first data set
    are shown. Raises ValueError on a table without curves.
    """
    curves = _pick_curves(figure_2)
    sizes = tuple(int(size) for size in sorted(curves.bs.unique()))
    stages = tuple(curves.stage.unique())
    lengths = {key: rows.sort_values("step") for key, rows in curves.groupby(["stage", "bs"])}
    figure, (left, right) = place_axes()
    at_start = curves[curves.step == 0][["loss", "held"]].to_numpy()
    left.set(xlim=(0, STEP_CHOICES[-1]), ylim=(0.9 * curves.loss.min(), 1.5 * at_start.max()))
    left.set(xlabel="step / the batch's best step", ylabel="loss [nats]")
    gained = 1.1 * (at_start[:, 0].max() - curves.loss.min())
    right.axhline(0, color="0.7", linewidth=1)
    right.set(xscale="log", xlim=(sizes[0] / 1.3, sizes[-1] * 1.3), ylim=(-gained, 1.5 * gained))
    right.set(xlabel="batch size", ylabel="change of the loss [nats]")
    right.set_xticks(sizes, [str(size) for size in sizes])
    right.minorticks_off()
    names = {"loss": ("the step's own batch", BLUE), "held": ("held-out batches", ORANGE)}
    along = {column: _line(left, colour, name) for column, (name, colour) in names.items()}
    dots = {column: _dot(left, colour) for column, (_, colour) in names.items()}
    by_size = {column: _line(right, colour, name, "o-") for column, (name, colour) in names.items()}
    left.legend(frameon=False, fontsize="small", loc="upper left")
    sentence = _sentence(left)

    def move(stage: str, batch: int, step: float) -> list[Artist]:
        curve, words = lengths[stage, batch], []
        for column, name in {"loss": "own batch", "held": "held out"}.items():
            along[column].set_data(curve.step, curve[column])
            start, now = read_loss(curve, column, 0), read_loss(curve, column, step)
            dots[column].set_data([step], [now])
            ends = [lengths[stage, size] for size in sizes]
            by_size[column].set_data(
                sizes, [read_loss(end, column, step) - read_loss(end, column, 0) for end in ends]
            )
            words.append(f"{name} {start:.2f} to {now:.2f}")
        sentence.set_text(f"{stage}, batch {batch}, a step of {step:g}: {', '.join(words)}")
        return [*along.values(), *dots.values(), *by_size.values(), sentence]

    chosen = {"stage": (stages, stages[0]), "batch": (sizes, sizes[0]), "step": (STEP_CHOICES, 1.0)}
    return Explorer(figure, chosen, move)


def _pick_curves(figure_2: pd.DataFrame) -> pd.DataFrame:
    curves = figure_2[(figure_2.what == "curve") & (figure_2.norm == "batch")]
    if curves.empty:
        raise ValueError("the table must have curves, got none")
    curves = curves[curves.dataset == curves.dataset.iloc[0]]
    return curves[(curves.step <= STEP_CHOICES[-1]) & (curves.seed == curves.seed.min())]


def read_loss(curve: pd.DataFrame, column: str, step: float) -> float:
    """The loss at a step size, between two that were measured in proportion."""
    return float(np.interp(step, curve.step, curve[column]))


def _line(ax: Axes, colour, name: str, fmt: str = "-") -> Line2D:
    return ax.plot([], [], fmt, color=colour, label=name)[0]


def _dot(ax: Axes, colour) -> Line2D:
    return ax.plot([], [], "o", color=colour, markersize=7)[0]


def _sentence(ax: Axes) -> Artist:
    """The numbers at the chosen values, above both axes."""
    return ax.figure.text(0.08, 0.93, "", fontsize="medium")
