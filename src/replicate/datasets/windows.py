"""columns[i, b] = tokens[b rows + i]: a text as parallel columns, read in windows of random length.

    length = bptt with probability 0.95, else bptt / 2;     window ~ max(5, N(length, 5))

Merity, Keskar and Socher 2018, section 4.1: where a text is always cut at the same places, some
words never get a gradient from what comes after them.
"""

import numpy as np
import torch
from torch import Tensor

from replicate.errors import BadParameter
from replicate.streams import rng

WHOLE = 0.95  # probability of the full base length
SHORTEST_WINDOW = 5  # tokens
SPREAD = 5.0  # standard deviation of a length, in tokens


def fold(tokens: np.ndarray, batch: int, device: str = "cpu") -> Tensor:
    """The text as `batch` columns beside each other, (rows, batch); what does not fill a row is left
    out.

    Raises BadParameter if a column would have fewer than two tokens, one to see and one to predict.

    >>> fold(np.arange(7), 3)
    tensor([[0, 2, 4],
            [1, 3, 5]])
    """
    rows = len(tokens) // batch
    if rows < 2:
        raise BadParameter(
            f"batch must leave each column two tokens of the text's {len(tokens)}, got {batch}"
        )
    columns = tokens[: rows * batch].reshape(batch, rows).T.copy()
    return torch.from_numpy(columns).to(device)


def cut_windows(rows: int, bptt: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(first, last + 1) row of the inputs of every window of an epoch, one behind the other.

    The targets lie a row further on, so the last row is a target alone. A function of its arguments:
    every method sees the same windows.
    """
    draws = rng(seed, "order", epoch)
    windows, start = [], 0
    while start < rows - 1:
        base = bptt if draws.random() < WHOLE else bptt / 2
        length = max(SHORTEST_WINDOW, int(draws.normal(base, SPREAD)))
        windows.append((start, min(start + length, rows - 1)))
        start += length
    return windows
