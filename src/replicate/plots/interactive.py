"""A figure whose axes stay while sliders move what is drawn in them.

Only what moves is drawn anew, over a picture of the rest, so that an answer takes milliseconds.
Where there is no browser with a kernel behind it, the picture at the first values stands for all.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from replicate.errors import unknown

WIDE, HIGH = 9.6, 3.4  # inches of a figure with two axes
SHARP = 100  # dots an inch


def place_axes() -> tuple[Figure, Sequence]:
    """A figure that pyplot does not know of, and its two axes; room for a sentence above them."""
    figure = Figure(figsize=(WIDE, HIGH), dpi=SHARP)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, gridspec_kw={"wspace": 0.28})
    figure.subplots_adjust(left=0.08, right=0.975, top=0.85, bottom=0.15)
    return figure, axes


class Explorer:
    """A figure with controls: `answer` is what a control calls, and a notebook's cell shows it.

    figure: drawn whole once. controls: name -> the values it can take and the one it begins with.
    move: takes a value a control, changes artists of the figure and returns those that it changes,
    the same ones every time.
    """

    def __init__(
        self,
        figure: Figure,
        controls: Mapping[str, tuple[Sequence, object]],
        move: Callable[..., Sequence[Artist]],
    ):
        self.figure = figure
        self.choices = {name: tuple(values) for name, (values, _) in controls.items()}
        self.start = {name: start for name, (_, start) in controls.items()}
        self._move = move
        self._moving = tuple(move(**self.start))
        for artist in self._moving:
            artist.set_animated(True)
        figure.canvas.draw()
        self._rest = figure.canvas.copy_from_bbox(figure.bbox)

    def answer(self, **values: object) -> bytes:
        """The figure at these values as PNG; a control that is not named stands as at first.

        Raises BadParameter (a ValueError) on an unknown control, or a value that it cannot take.
        """
        for name, value in values.items():
            if name not in self.choices:
                raise unknown("control", name, self.choices)
            if value not in self.choices[name]:
                raise unknown(name, str(value), [str(each) for each in self.choices[name]])
        self._move(**self.start | values)
        canvas = self.figure.canvas
        canvas.restore_region(self._rest)
        for artist in self._moving:
            self.figure.draw_artist(artist)
        return _encode(canvas)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """What IPython asks for: the widget, and the picture for whom has none."""
        picture = {
            "image/png": base64.b64encode(self.answer()).decode(),
            "text/plain": f"a figure with sliders for {' and '.join(self.choices)}",
        }
        return self._make_widget()._repr_mimebundle_() | picture

    def _make_widget(self):
        """The controls above the picture, which answers to them."""
        import ipywidgets

        picture = ipywidgets.Image(value=self.answer(), format="png")
        controls = {
            name: (
                ipywidgets.Dropdown if isinstance(values[0], str) else ipywidgets.SelectionSlider
            )(options=values, value=self.start[name], description=name)
            for name, values in self.choices.items()
        }

        def redraw(change) -> None:
            chosen = {name: control.value for name, control in controls.items()}
            picture.value = self.answer(**chosen)

        for control in controls.values():
            control.observe(redraw, "value")
        return ipywidgets.VBox([ipywidgets.HBox(list(controls.values())), picture])


def _encode(canvas: FigureCanvasAgg) -> bytes:
    """The canvas as it stands, quickly rather than small."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(
        stream, "PNG", compress_level=1
    )
    return stream.getvalue()
