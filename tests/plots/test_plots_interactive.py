"""A figure with sliders: what moves is drawn anew, all of it, and a browser's slider gets what a call
gets.
"""

import base64
import io

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from replicate.errors import BadParameter
from replicate.plots.interactive import Explorer, place_axes


@pytest.fixture
def explorer():
    """A point on a line, at `a` to the right and on the line of a name."""
    figure, (left, right) = place_axes()
    left.set(xlim=(0, 10), ylim=(0, 10))
    (point,) = left.plot([], [], "s", color="red", markersize=12)
    said = right.text(0.5, 0.5, "")

    def move(a, name):
        point.set_data([a], [{"low": 2, "high": 8}[name]])
        said.set_text(name)
        return [point, said]

    return Explorer(figure, {"a": (range(1, 10), 5), "name": (("low", "high"), "low")}, move)


def find_red(png: bytes) -> tuple[float, float]:
    """Where the red pixels are, in the left axes' numbers."""
    pixels = np.asarray(Image.open(io.BytesIO(png))).astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1:].max(-1) < 60)
    rows, columns = np.nonzero(red)
    height, width = red.shape
    left, bottom, right, top = 0.08, 0.15, 0.08 + 0.895 / 2.28, 0.85
    x = (columns.mean() / width - left) / (right - left) * 10
    return x, (1 - rows.mean() / height - bottom) / (top - bottom) * 10


@pytest.mark.parametrize("chosen, place", [({}, (5, 2)), ({"a": 9}, (9, 2)), ({"name": "high", "a": 1}, (1, 8))])  # fmt: skip
def test_the_picture_shows_what_was_asked_for(explorer, chosen, place):
    assert find_red(explorer.answer(**chosen)) == pytest.approx(place, abs=0.15)


def test_an_answer_leaves_nothing_behind(explorer):
    first = explorer.answer()
    assert explorer.answer(a=9, name="high") != first
    assert explorer.answer() == first


@pytest.mark.parametrize("chosen, word", [({"b": 1}, "unknown control 'b'"), ({"a": 10}, "unknown a '10'"), ({"name": "hight"}, "did you mean 'high'")])  # fmt: skip
def test_what_no_control_can_say_is_refused(explorer, chosen, word):
    with pytest.raises(BadParameter, match=word):
        explorer.answer(**chosen)


def test_a_cell_shows_the_widget_and_the_picture_at_first(explorer):
    shown = explorer._repr_mimebundle_()
    assert base64.b64decode(shown["image/png"]) == explorer.answer()
    assert shown["text/plain"] == "a figure with sliders for a and name"
    assert "application/vnd.jupyter.widget-view+json" in shown


def test_a_moved_slider_changes_the_picture(explorer):
    controls, picture = explorer._make_widget().children
    slider, choice = controls.children
    assert [slider.description, choice.description] == ["a", "name"]
    slider.value = 9
    assert picture.value == explorer.answer(a=9)
    choice.value = "high"
    assert picture.value == explorer.answer(a=9, name="high")


def test_there_is_room_for_a_sentence_above_the_axes():
    figure, axes = place_axes()
    said = Text(0, 0, "x", figure=figure)
    height = said.get_window_extent(figure.canvas.get_renderer()).height
    above = figure.bbox.height * (1 - max(ax.get_position().y1 for ax in axes))
    assert above > 2 * height
