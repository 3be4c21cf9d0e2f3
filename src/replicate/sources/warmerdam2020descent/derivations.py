"""What the post derives and what its code amounts to, where both can be settled without sampling."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from replicate import descent, models, optim, training
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent._vault import vault
from replicate.sources.warmerdam2020descent.presets import ALGEBRA
from replicate.sources.warmerdam2020descent.settings import Settings
from replicate.streams import rng

PRINTED_COLUMNS = 10  # of the printed regression
PRINTED_DICT = ("KS_50_0", "KS_50_2", "KS_10_0", "KS_10_2", "KV_10", "KV_50", "SGD")
IN_THE_PROSE = ("KS_50_2", "SGD", "ADAM")  # what the results are said to compare
OUTER_STEPS = {"SGD": 1000, "K": 100}
PRINTED_SIGNATURE = ("n_row", "dim_in", "dim_hidden", "n_layers")
WELL_POSED = ((200, 3), (2000, 100))  # rows, columns
UNDETERMINED = ((10, 20), (20, 20), (200, 250))
PROBLEM = (400, 20)  # rows and columns of the random problems
PROBLEM_COUNT = 5
LOOP_STEPS = 20  # steps of the two printed loops


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def derivations(settings: Settings) -> pd.DataFrame:
    """Every exact statement and erratum: columns claim, case, value, control (NaN where there is
    none).
    """
    rows = [*calculus(), *bullseye(), *solve_in_closed_form(), *regression(), *stepping(), *vault()]
    rows += run_printed_loop(settings)
    return pd.DataFrame(
        [(*row, np.nan)[:4] for row in rows], columns=["claim", "case", "value", "control"]
    )


def calculus() -> list[tuple]:
    """KEEP-02, KEEP-03 and Y3: Newton steps in one and two variables; the Hessian in its inverse's
    place.
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
        ("Y3.count", "10 columns", float((PRINTED_COLUMNS + 1) ** 2)),
    ]


def bullseye() -> list[tuple]:
    """KEEP-07, Y1 and Y2: the derivation line by line, on symbols for 3 rows and 2 columns."""
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
    printed_t = [-gram * x.T * (y - x * beta), -gram * x.T * y + gram * x.T * x * beta, beta - ols]
    lines = [
        (printed_gradient, gradient),
        (printed_hessian, hessian),
        (
            -printed_hessian.inv() * printed_gradient,
            t,
        ),  # t as it is defined; the missing factors cancel
        (printed_t[0], -printed_hessian.inv() * printed_gradient),
        (printed_t[1], printed_t[0]),
        (printed_t[2], printed_t[1]),
        (beta - printed_t[2], beta + printed_t[2]),  # x_(k+1) was defined as x_k + t
        (beta - beta + ols, beta - printed_t[2]),
        (ols, beta - beta + ols),
    ]
    wrong = sum(not _agree(line, before) for line, before in lines)
    third = [sp.expand(sp.diff(loss, *three)) for three in product(beta, repeat=3)]
    return [
        ("KEEP-07.chain", "9 lines", float(wrong)),
        ("KEEP-07.final", "sympy", 0.0 if _agree(beta + t, ols) else 1.0),
        ("Y1.gradient", "sympy", float(sp.cancel(printed_gradient[0] / gradient[0]))),
        ("Y1.hessian", "sympy", float(sp.cancel(printed_hessian[0] / hessian[0]))),
        ("Y1.sign", "sympy", float(sp.cancel(sp.together(printed_t[2][0] / t[0])))),
        ("Y1.update", "sympy", 0.0 if _agree(beta - printed_t[2], ols) else 1.0),
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
    """KEEP-06.refused, KEEP-10, Y4 and Y5.seed: shapes, counts, types and seeds of the printed
    regression.
    """
    share = [
        np.mean([_singular(*shape) for shape in shapes]) for shapes in (UNDETERMINED, WELL_POSED)
    ]
    runs = [_draw_printed_block(), _draw_printed_block()]
    x, w = (np.abs(runs[0][i] - runs[1][i]).max() for i in range(2))
    return [
        (
            "KEEP-06.refused",
            f"{len(UNDETERMINED)} and {len(WELL_POSED)} shapes",
            float(share[0] - share[1]),
        ),
        ("KEEP-10.example", "10 columns", float((PRINTED_COLUMNS + 1) ** 2)),
        ("KEEP-10.network", "2000 weights", float(2000**2)),
        ("Y4.type", "one update", float(descent.bits_of_printed_update()[1])),
        ("Y5.seed", "two runs", float(x - w)),
    ]


def stepping() -> list[tuple]:
    """Y6 to Y9: the lengths of the printed mini-steps, and where they lead on a slope and on a
    parabola.
    """
    i = np.arange(6)
    # Multiples of the gradient in steps of SGD: -lr - scale with scale = -lr scale_i sqrt(i).
    printed = -1 + 2 * np.sqrt(i)
    # i is 0 before the loop and 0, 1, ... in it.
    meant = [1 + 2 * np.sqrt(0), 1 + 2 * np.sqrt(0), 1 + 2 * np.sqrt(1)]
    walk = {"loss": lambda w, data: w[0], "data": (), "start": np.zeros(1), "lr": 1.0, "steps": 1}
    once = descent.train(descent.Stepping(50, 2.0, "published"), **walk)
    longest = descent.train(descent.Stepping(50, 0.0, "published"), **walk)
    bowl = walk | {"loss": lambda w, data: (w**2).sum(), "start": np.ones(1), "lr": 0.09}
    end = descent.train(descent.Stepping(50, 0.0, "published"), **bowl)
    way = 1 - 2 * 0.09 * np.arange(end.mini_steps[0] + 1)
    return [
        ("Y6.factors", "scale_i = 2", float((printed[1:] > 0).sum())),
        ("Y6.zero", "scale_i = 1", float(-1 + np.sqrt(1))),
        ("Y6.net", "KS_50_2 on a slope", float(-once.weights[0])),
        ("Y7", "scale_i = 2", float(meant[1] - meant[0])),
        ("Y8", "KS_50_0 on a slope", float(longest.mini_steps[0])),
        ("Y9.kept", "KS_50_0 on a parabola", float(end.losses[-1] - (way**2).min())),
    ]


def run_printed_loop(settings: Settings) -> list[tuple]:
    """KEEP-25 and Y13 to Y15: what the printed loop and the printed functions do, run in torch."""
    rows = descent.rows(1000, settings.columns, 0)
    x, y = training.full_batch.tensors(rows.x.T, rows.y[:, None])
    model = models.chain(settings.dims, 0)
    first = training.full_batch.loss_of(model, x, y)().item()
    ends = []
    for zero in (True, False):
        model = models.chain(settings.dims, 0)
        losses, _ = training.full_batch.train(
            model, x, y, optim.SGD(model.parameters(), lr=1e-2), LOOP_STEPS + 1, zero=zero
        )
        ends.append(losses[-1])
    a, b = np.split(rng(0, "noise", 4).standard_normal((200, settings.columns)), 2)
    f = [training.full_batch.outputs(model, z) for z in (a + b, a, b, 0 * a)]
    defect = np.abs(f[0] - f[1] - f[2] + f[3]).max() / np.abs(f[0]).max()
    return [
        ("KEEP-25.gradients", "figure9, 1000 rows", float(abs(ends[1] / ends[0] - 1))),
        ("KEEP-25.adam", "printed dict", float(len(set(IN_THE_PROSE) - set(PRINTED_DICT)))),
        ("Y13.steps", "printed loop", OUTER_STEPS["SGD"] / OUTER_STEPS["K"]),
        ("Y14.arguments", "printed call", float(len(PRINTED_SIGNATURE))),
        ("Y14.linear", "figure9", float(defect)),
        ("Y14.zero", "n_layers = 0", float(len(descent.published_net(100, 20, 0).dims) - 1)),
        ("Y15", "figure9, 1000 rows", float(losses[0] - first)),
    ]


def _agree(a, b) -> bool:
    import sympy as sp

    return all(sp.cancel(sp.together(entry)) == 0 for entry in a - b)


def _singular(rows: int, columns: int) -> bool:
    data = descent.regression(rows, columns, 0)
    return descent.normal_equations(data.x, data.y).singular


def _draw_printed_block(rows: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """X and W of the printed block: X from an unseeded generator, W from one seeded with 42."""
    unseeded = np.random.RandomState()
    seeded = np.random.RandomState(42)
    return unseeded.normal(0, 1, (rows, PRINTED_COLUMNS)), seeded.normal(0, 1, PRINTED_COLUMNS + 1)
