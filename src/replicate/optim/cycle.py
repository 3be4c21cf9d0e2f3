"""What a cycle of Lookahead is made of, checked without any framework.

The torch optimizer has its own check, which refuses the same values.
"""

import math
import numbers

from replicate.errors import BadParameter


def check_cycle(k: int, alpha: float, extrapolate: bool = False) -> None:
    """Raise BadParameter unless k and alpha make a cycle of Lookahead.

    k: inner steps, a whole number of at least 1; alpha: the slow weights' step, in (0, 1], or any
    finite number above 0 where `extrapolate` allows to go past the fast weights.

    >>> check_cycle(5, 0.5)
    >>> check_cycle(5, 1.5)
    Traceback (most recent call last):
    replicate.errors.BadParameter: alpha must be at most 1, got 1.5; ...
    """
    if not isinstance(k, numbers.Integral) or isinstance(k, bool) or k < 1:
        raise BadParameter(f"k must be a whole number of at least 1, got {k!r}")
    is_number = isinstance(alpha, numbers.Real) and not isinstance(alpha, bool)
    if not is_number or not (math.isfinite(alpha) and alpha > 0):
        raise BadParameter(f"alpha must be a finite number above 0, got {alpha!r}")
    if alpha > 1 and not extrapolate:
        raise BadParameter(
            f"alpha must be at most 1, got {alpha!r}; "
            "say extrapolate=True to go past the fast weights"
        )
