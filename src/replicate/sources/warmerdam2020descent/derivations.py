"""What the post derives and what its code amounts to, where both can be settled without sampling."""

from __future__ import annotations

import inspect
from itertools import product

import numpy as np
import pandas as pd

from replicate import descent, optim, training
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _printed
from replicate.sources.warmerdam2020descent._vault import vault
from replicate.sources.warmerdam2020descent.presets import ALGEBRA
from replicate.sources.warmerdam2020descent.settings import Settings
from replicate.streams import rng

PRINTED_COLUMNS = 10  # of the printed regression
TWO_THOUSAND = (10, 45, 32, 1)  # dims of a net with as many weights as the post's "2K numbers"
WELL_POSED = ((200, 3), (2000, 100))  # rows, columns
UNDETERMINED = ((10, 20), (20, 20), (200, 250))
PROBLEM = (400, 20)  # rows and columns of the random problems
PROBLEM_COUNT = 5
LOOP_STEPS = 2  # steps of the printed loop


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def derivations(settings: Settings) -> pd.DataFrame:
    """Every exact statement and erratum: columns claim, case, value, control (NaN where there is
    none).
    """
    rows = [*calculus(), *bullseye(), *solve_in_closed_form(), *regression(), *count_elements()]
    rows += [*stepping(), *vault()]
    rows += run_printed_loop(settings)
    return pd.DataFrame(
        [(*row, np.nan)[:4] for row in rows], columns=["claim", "case", "value", "control"]
    )


def calculus() -> list[tuple]:
    """KEEP-02, KEEP-03 and Y3.inverse: Newton steps in one and two variables; the Hessian in its
    inverse's place.
    """
    import sympy as sp

    f, slope, curve, t = sp.symbols("f slope curve t")
    (step,) = sp.solve(sp.diff(f + slope * t + curve * t**2 / 2, t), t)
    single = sp.simplify(step + slope / curve)
    a, b, c, g1, g2, t1, t2 = sp.symbols("a b c g1 g2 t1 t2")
    hessian = sp.Matrix([[a, b], [b, c]])
    g = sp.Matrix([g1, g2])
    ts = sp.Matrix([t1, t2])
    model = (g.T * ts + ts.T * hessian * ts / 2)[0]
    minimum = sp.solve([sp.diff(model, t) for t in ts], list(ts))
    two = sp.simplify(sp.Matrix([minimum[t1], minimum[t2]]) + hessian.inv() * g)
    root = rng(0, "noise", 3).standard_normal((4, 4))
    h = root @ root.T + np.eye(4)
    start = np.ones(4)
    missed = np.linalg.norm(start - h @ (h @ start)) / np.linalg.norm(start)  # the minimum is at 0
    return [
        ("KEEP-02", "sympy", float(single)),
        ("KEEP-03", "sympy", float(max(abs(entry) for entry in two))),
        ("Y3.inverse", "quadratic", float(missed)),
    ]


def bullseye() -> list[tuple]:
    """KEEP-07.final, Y1 and Y2: lines of the derivation, on symbols for 3 rows and 2 columns."""
    import sympy as sp

    x = sp.Matrix(3, 2, sp.symbols("x:6"))
    y = sp.Matrix(sp.symbols("y:3"))
    beta = sp.Matrix(sp.symbols("b:2"))
    loss = ((y - x * beta).T * (y - x * beta))[0]
    gradient = sp.Matrix([loss]).jacobian(beta).T
    hessian = sp.hessian(loss, list(beta))
    gram = (x.T * x).inv()
    ols = gram * x.T * y
    printed_gradient = -x.T * (y - x * beta)
    printed_hessian = x.T * x
    t = -hessian.inv() * gradient
    printed_t = beta - ols  # the last of the four lines, each of which follows from the one before
    third = [sp.expand(sp.diff(loss, *three)) for three in product(beta, repeat=3)]
    return [
        ("KEEP-07.final", "sympy", 0.0 if _agree(beta + t, ols) else 1.0),
        ("Y1.gradient", "sympy", float(sp.cancel(printed_gradient[0] / gradient[0]))),
        ("Y1.hessian", "sympy", float(sp.cancel(printed_hessian[0] / hessian[0]))),
        ("Y1.sign", "sympy", float(sp.cancel(sp.together(printed_t[0] / t[0])))),
        ("Y1.update", "sympy", 0.0 if _agree(beta - printed_t, ols) else 1.0),
        ("Y2", "sympy", float(max(map(abs, third)))),
    ]


def solve_in_closed_form() -> list[tuple]:
    """KEEP-08: one Newton step against least squares by LAPACK, on random problems."""
    worst = 0.0
    control = np.inf
    rows, columns = PROBLEM
    for index in range(PROBLEM_COUNT):
        data = descent.regression(rows, columns, index)
        ols = np.linalg.lstsq(data.x, data.y, rcond=None)[0]
        problem = {"start": descent.regression_start(columns, index), "data": (data.x, data.y)}
        end = descent.newton(descent.mean_squared_error, steps=1, **problem).points[-1]
        step = descent.gradient_descent(
            descent.mean_squared_error, lr=0.5, steps=1, **problem
        ).points[-1]
        worst = max(worst, np.linalg.norm(end - ols) / np.linalg.norm(ols))
        control = min(control, np.linalg.norm(step - ols) / np.linalg.norm(ols))
    return [("KEEP-08", f"{PROBLEM_COUNT} problems", float(worst), float(control))]


def regression() -> list[tuple]:
    """KEEP-06.refused, Y4 and Y5.seed: shapes, types and seeds of the printed regression."""
    share = [
        np.mean([_singular(*shape) for shape in shapes]) for shapes in (UNDETERMINED, WELL_POSED)
    ]
    fresh = (np.random.RandomState(), np.random.RandomState())
    runs = [_printed.draw_regression(random, 100, PRINTED_COLUMNS) for random in fresh]
    x, _, w = (np.abs(one - other).max() for one, other in zip(*runs, strict=True))
    return [
        (
            "KEEP-06.refused",
            f"{len(UNDETERMINED)} and {len(WELL_POSED)} shapes",
            float(share[0] - share[1]),
        ),
        ("Y4.type", "one update", float(descent.bits_of_printed_update()[1])),
        ("Y5.seed", "two runs", float(x - w)),
    ]


def count_elements() -> list[tuple]:
    """KEEP-10 and Y3.count: elements of the Hessians of the printed regression and of a net, by the
    shapes of the arrays that jax would make.
    """
    x, y, start = _printed.draw_regression(np.random.RandomState(0), 20, PRINTED_COLUMNS)
    net = descent.Net(TWO_THOUSAND)
    shapes = (
        descent.shape_of_hessian(descent.mean_squared_error, start, x, y),
        descent.shape_of_hessian(
            descent.rows_loss(net), np.zeros(net.size), descent.rows(20, TWO_THOUSAND[0], 0)
        ),
    )
    example, network = map(np.prod, shapes)
    return [
        ("Y3.count", "10 columns", float(example)),
        ("KEEP-10.network", f"{net.size} weights", float(network)),
    ]


def stepping() -> list[tuple]:
    """Y6.net to Y9.kept: where the printed mini-steps lead on a slope and on a parabola."""
    walk = {"loss": lambda w, data: w[0], "data": (), "start": np.zeros(1), "lr": 1.0, "steps": 1}
    once = descent.train(descent.Stepping(50, 2.0, "published"), **walk)
    # max_steps 1 allows two mini-steps; impatience is meant to lengthen the second.
    twice = descent.train(descent.Stepping(1, 2.0, "published"), **walk)
    longest = descent.train(descent.Stepping(50, 0.0, "published"), **walk)
    bowl = walk | {"loss": lambda w, data: (w**2).sum(), "start": np.ones(1), "lr": 0.09}
    end = descent.train(descent.Stepping(50, 0.0, "published"), **bowl)
    way = 1 - 2 * 0.09 * np.arange(end.mini_steps[0] + 1)
    return [
        ("Y6.net", "KS_50_2 on a slope", float(-once.weights[0])),
        ("Y7", "scale_i = 2", float(-twice.weights[0] - twice.mini_steps[0])),
        ("Y8", "KS_50_0 on a slope", float(longest.mini_steps[0])),
        ("Y9.kept", "KS_50_0 on a parabola", float(end.losses[-1] - (way**2).min())),
    ]


def run_printed_loop(settings: Settings) -> list[tuple]:
    """Y14 and Y15: what the printed loop and the printed functions do, run in torch."""
    arguments = inspect.signature(_printed.generate_new_dataset).parameters.values()
    x, y, model = _printed.generate_new_dataset(
        1000, settings.columns, settings.width, settings.maps - 2
    )
    x, y = training.full_batch.tensors(x, y)
    first = training.full_batch.loss_of(model, x, y)().item()
    losses, _ = training.full_batch.train(
        model, x, y, optim.SGD(model.parameters(), lr=settings.lr), LOOP_STEPS
    )
    a, b = np.split(rng(0, "noise", 4).standard_normal((200, settings.columns)), 2)
    f = [training.full_batch.outputs(model, z) for z in (a + b, a, b, 0 * a)]
    defect = np.abs(f[0] - f[1] - f[2] + f[3]).max() / np.abs(f[0]).max()
    *_, shallow = _printed.generate_new_dataset(10, 100, 20, 0)
    return [
        ("Y14.arguments", "printed call", float(sum(a.default is a.empty for a in arguments))),
        ("Y14.linear", "figure9", float(defect)),
        ("Y14.zero", "n_layers = 0", float(len(shallow))),
        ("Y15", "figure9, 1000 rows", float(losses[0] - first)),
    ]


def _agree(a, b) -> bool:
    import sympy as sp

    return all(sp.cancel(sp.together(entry)) == 0 for entry in a - b)


def _singular(rows: int, columns: int) -> bool:
    data = descent.regression(rows, columns, 0)
    return descent.normal_equations(data.x, data.y).singular
