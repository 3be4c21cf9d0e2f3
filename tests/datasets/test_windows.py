"""A text as columns, and windows of random length through them."""

import numpy as np
import pytest

from replicate.datasets.windows import cut_windows, fold
from replicate.errors import BadParameter


def test_every_column_is_a_run_of_the_text():
    text = np.arange(23)
    columns = fold(text, 4)
    assert tuple(columns.shape) == (5, 4)
    for number, column in enumerate(columns.T.tolist()):
        assert column == list(range(5 * number, 5 * number + 5))


@pytest.mark.parametrize("tokens, batch", [(7, 4), (0, 1), (1, 1), (3, 2)])
def test_columns_that_leave_nothing_to_predict_are_refused(tokens, batch):
    with pytest.raises(BadParameter, match=f"of the text's {tokens}, got {batch}"):
        fold(np.arange(tokens), batch)


@pytest.mark.parametrize("rows", [2, 3, 71, 500])
def test_windows_lie_behind_each_other_and_predict_every_row_but_the_first(rows):
    windows = cut_windows(rows, 20, seed=1, epoch=0)
    assert windows[0][0] == 0 and windows[-1][1] == rows - 1
    assert all(stop == start for (_, stop), (start, _) in zip(windows, windows[1:], strict=False))
    assert all(start < stop for start, stop in windows)


def test_lengths_are_the_recipes():
    lengths = np.concatenate(
        [[b - a for a, b in cut_windows(20_000, 70, 0, epoch)[:-1]] for epoch in range(40)]
    )
    short = lengths < 52  # half way between the two bases, three and a half deviations off each
    assert len(lengths) > 10_000
    assert short.mean() == pytest.approx(0.05, abs=0.01)
    # A normal number is cut down to a whole one, which takes half off its mean.
    assert lengths[~short].mean() == pytest.approx(69.5, abs=0.2)
    assert lengths[short].mean() == pytest.approx(34.5, abs=0.8)
    assert lengths[~short].std() == pytest.approx(5.0, abs=0.2)


def test_no_window_but_the_last_is_shorter_than_five():
    windows = cut_windows(5000, 4, 0, 0)
    lengths = [stop - start for start, stop in windows]
    assert min(lengths[:-1]) == 5 and lengths.count(5) > len(lengths) / 3


def test_windows_are_those_of_seed_and_epoch():
    assert cut_windows(300, 20, 3, 1) == cut_windows(300, 20, 3, 1)
    others = [cut_windows(300, 20, 3, 2), cut_windows(300, 20, 4, 1)]
    assert cut_windows(300, 20, 3, 1) not in others
