"""The paper's identities in symbols: each function gives what is left of one, 0 where it holds.

Left-overs are counted: the number of terms of the expanded difference of both sides.
"""

from collections.abc import Iterator

import sympy


def count_terms(*differences) -> float:
    """Terms left of all differences after expansion."""
    expanded = [sympy.expand(each) for difference in differences for each in _entries(difference)]
    return float(sum(len(each.as_ordered_terms()) for each in expanded if each != 0))


def count_rational(difference) -> float:
    """Terms left in the numerator of a difference of rational functions."""
    return count_terms(sympy.numer(sympy.together(difference)))


def list_model() -> Iterator[tuple[str, float, float]]:
    """Section 4 for two dimensions and one row a sample: (claim, left, left of the control)."""
    theta, a = sympy.Matrix(sympy.symbols("t1 t2")), sympy.Matrix([sympy.symbols("a1 a2")])
    c, rate = sympy.symbols("c lambda")
    residual = a * theta + sympy.Matrix([c])
    loss = (residual.T * residual)[0] / 2
    derivative = sympy.Matrix([sympy.diff(loss, each) for each in theta])
    gradient = a.T * residual
    yield "TRAJ-12", count_terms(derivative - gradient), count_terms(derivative - gradient / 2)
    norm = (theta.T * theta)[0]
    gamma = (theta.T * a.T * a * theta)[0] / norm
    across = sympy.Matrix([-theta[1], theta[0]])  # the direction orthogonal to theta
    drift = across * (across.T * a.T * a * theta)[0] / norm + a.T * c
    split = (1 - rate * gamma) * theta - rate * drift - (theta - rate * gradient)
    without = split + rate * a.T * c
    yield "TRAJ-13.split", _count_fractions(split), _count_fractions(without)


def find_still_rate() -> tuple[float, float]:
    """Eqs. 8 and 9: what is left of the change of the squared norm at lambda_x, and at half of it."""
    gamma, norm, drift = sympy.symbols("gamma theta2 xi2", positive=True)

    def change(rate):
        return (1 - rate * gamma) ** 2 * norm + rate**2 * drift - norm

    still = 2 * gamma * norm / (drift + gamma**2 * norm)
    return count_rational(change(still)), count_rational(change(still / 2))


def find_loss_ratio() -> float:
    """Eq. 1 as printed over the expected loss, for two samples +-c whose linear terms cancel."""
    theta, a, c = sympy.symbols("theta a c", positive=True)
    losses = [(a * theta + sign * c) ** 2 / 2 for sign in (1, -1)]
    printed = a**2 * theta**2 + c**2
    return float(sympy.simplify(printed / sympy.expand(sum(losses) / 2)))


def solve_recursion(steps: int) -> tuple[float, float]:
    """Eq. 16 against eq. 15 written out; its control with powers one too high."""
    gamma, rate, start = sympy.symbols("Gamma lambda u0")
    noise = sympy.symbols(f"xi0:{steps}")
    u = start
    for each in noise:
        u = gamma * u + rate * each

    def equation_16(late):
        terms = (gamma ** (steps - 1 - t + late) * each for t, each in enumerate(noise))
        return gamma**steps * start + rate * sum(terms)

    return count_terms(u - equation_16(0)), count_terms(u - equation_16(1))


def filter_noise(k: int, steps: int) -> tuple[float, float]:
    """Eq. 17 for a kernel of symbols; its control filters with the kernel turned round."""
    gamma, rate, start = sympy.symbols("Gamma lambda u0")
    mu, noise = sympy.symbols(f"mu0:{k + 1}"), sympy.symbols(f"xi0:{k + steps}")
    path = [start]
    for each in noise:
        path.append(gamma * path[-1] + rate * each)

    def average(t, weights):
        return sum(weight * path[t - j] for j, weight in enumerate(weights))

    def remain(weights):
        ends = range(k, k + steps)
        filtered = (sum(w * noise[t - j] for j, w in enumerate(weights)) for t in ends)
        return [average(t + 1, mu) - gamma * average(t, mu) - rate * nu
                for t, nu in zip(ends, filtered, strict=True)]  # fmt: skip

    return count_terms(*remain(mu)), count_terms(*remain(mu[::-1]))


def sum_geometric(n: int) -> float:
    """Terms left of G1 and G2 of Appendix A.4 less the sums that they stand for, Delta = 1."""
    g = sympy.Symbol("g")
    first = g * (1 - g ** (n - 1)) / (1 - g)
    second = g * (1 - n * g ** (n - 1) + (n - 1) * g**n) / (1 - g) ** 2
    sums = sum(g**k for k in range(1, n)), sum(k * g**k for k in range(1, n))
    return count_rational(first - sums[0]) + count_rational(second - sums[1])


def weigh_steps(mu: tuple, weights: tuple) -> float:
    """Terms left of an average of frozen steps less the start plus its weighed steps."""
    start = sympy.Symbol("theta")
    moves = sympy.symbols(f"s0:{len(weights)}")
    points = [start + sum(moves[:j]) for j in range(len(moves) + 1)]
    average = sum(each * point for each, point in zip(mu, points, strict=True))
    trip = start + sum(w * move for w, move in zip(weights, moves, strict=True))
    return count_terms(sympy.expand(average - trip))


def identify_any_kernel(k: int) -> tuple[float, float]:
    """Table 1 as one identity: k + 1 weights of symbols, the last what is left of 1; the control
    weighs with sums that begin a step early.
    """
    free = sympy.symbols(f"mu0:{k}")
    mu = (*free, 1 - sum(free))
    tails = [sum(mu[t + 1 :]) for t in range(k)]
    early = [sum(mu[t:]) for t in range(k)]
    return weigh_steps(mu, tuple(tails)), weigh_steps(mu, tuple(early))


def weigh_printed(name: str, k: int) -> tuple[float, float]:
    """Eqs. 24 and 29 in symbols, SWA of the last k iterates or EMA begun at theta_t1; the control is
    half the rate throughout.
    """
    if name == "swa":
        mu = (0, *[sympy.Rational(1, k)] * k)
        printed = tuple(sympy.Rational(k - t, k) for t in range(k))
    else:
        delta = sympy.Symbol("delta")
        mu = ((1 - delta) ** k, *(delta * (1 - delta) ** (k - j) for j in range(1, k + 1)))
        printed = tuple(1 - (1 - delta) ** (k - t) for t in range(k))
    return weigh_steps(mu, printed), weigh_steps(mu, (sympy.Rational(1, 2),) * k)


def _count_fractions(matrix) -> float:
    return sum(count_rational(each) for each in matrix)


def _entries(difference) -> list:
    return list(difference) if isinstance(difference, sympy.MatrixBase) else [difference]
