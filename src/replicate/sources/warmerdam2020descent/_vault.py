"""Y11: what KeepVaulting's two printed formulas come to, and what they should have been.

    f1 = (L1 - L0) / lr,    f2 = (L1 - f1) / lr,    step = -(f2 / f1) lr = 1 + lr L1 / (L0 - L1)

with L0 and L1 the losses before and after a test step of length lr.
"""


def step_as_printed(before, after, lr):
    """The multiple of lr that the printed code jumps by, from the losses around a test step of
    length lr.
    """
    f1 = (after - before) / lr
    f2 = (after - f1) / lr
    return -f2 / f1 * lr


def parabola_step(before, after, slope, length):
    """The minimum of the parabola through the losses at 0 and `length`, with `slope` known at 0."""
    return -slope * length**2 / (2 * (after - before - slope * length))


def vault() -> list[tuple]:
    """(claim, case, value) of each part of the erratum, by sympy."""
    import sympy as sp

    l0, l1, lr, a, s = sp.symbols("L0 L1 lr a s", positive=True)
    step = step_as_printed(l0, l1, lr)
    more = l1 / (l0 - l1)
    line = l1 - more * (l0 - l1)  # loss after `more` further steps of the same fall
    half = sp.Rational(1, 2)
    tenth = sp.Rational(1, 10)
    unit = step_as_printed(1, half, 2 * tenth) / (2 * step_as_printed(1, half, tenth))
    # The parabola a (s - t)^2 / 2 with its minimum at s, tested at t = lr: slope -a s at 0.
    bowl = [a * (s - t) ** 2 / 2 for t in (0, lr)]
    minimum = parabola_step(bowl[0], bowl[1], -a * s, lr) - s
    missed = abs(lr * step_as_printed(*bowl, lr) - s).subs({a: 1, s: 1, lr: tenth})
    return [
        ("Y11.net", "sympy", float(sp.simplify(step - 1 - lr * more))),
        ("Y11.meaning", "sympy", float(sp.simplify(line))),
        ("Y11.unit", "L0 = 1, L1 = 1/2", float(unit)),
        ("Y11.minimum", "parabola", float(missed)),
        ("Y11.parabola", "sympy", float(sp.simplify(minimum))),
        ("Y11.limit", "L1 = L0 - 1e-12", float(step_as_printed(1.0, 1 - 1e-12, 1e-3))),
    ]
