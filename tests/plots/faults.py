"""What can be wrong with a drawn figure: text over text, a legend over what is drawn, text cut off by
the canvas, an axes with nothing in it.

Found on the matplotlib figure, after it is drawn. `list_faults` gives one line a fault.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOUCH = 1.0  # pixels that two boxes may share: their edges lie around the letters
CUT = 1.0  # pixels beyond the canvas
NEAR = 0.5  # pixels of a line that runs along a legend's edge


def list_faults(figure: Figure) -> list[str]:
    """Every fault of a figure, in words."""
    figure.canvas.draw()
    texts = list(find_texts(figure))
    return [
        *find_overprints(texts),
        *find_cut_off(figure, texts),
        *find_covered(figure),
        *find_empty(figure),
    ]


def find_texts(figure: Figure) -> Iterator[tuple[str, np.ndarray]]:
    """Every text that is seen, and its corners in pixels, (4, 2)."""
    for text in _list_seen(figure):
        if text.get_text().strip():
            yield " ".join(text.get_text().split()), find_corners(text)


def _list_seen(figure: Figure) -> Iterator[Text]:
    """The texts of a figure without tick labels beyond the ends of their axis."""
    hidden = set()
    for ax in figure.findobj(Axes):
        for axis in (ax.xaxis, ax.yaxis):
            drawn = (
                {id(each) for each in axis._update_ticks()}
                if axis.get_visible() and ax.axison
                else set()
            )
            for tick in (*axis.majorTicks, *axis.minorTicks):
                hidden |= set() if id(tick) in drawn else {tick.label1, tick.label2}
            if not (axis.get_visible() and ax.axison):
                hidden |= {axis.label, axis.offsetText}
    for text in figure.findobj(Text):
        if text not in hidden and text.get_visible() and is_drawn(text):
            yield text


def is_drawn(text: Text) -> bool:
    """Whether nothing that holds a text is hidden."""
    return text.axes is None or text.axes.get_visible()


def find_corners(text: Text) -> np.ndarray:
    """The rectangle of a text, turned as it is, (4, 2) in pixels."""
    angle = text.get_rotation()
    box = Text.get_window_extent(text)  # of an annotation without its arrow
    if angle % 90 == 0:
        return np.array([(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)])
    text.set_rotation(0)
    level = Text.get_window_extent(text)
    text.set_rotation(angle)
    turn = np.deg2rad(angle)
    flat = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2 * [level.width, level.height]
    around = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return flat @ around + [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]


def share_depth(first: np.ndarray, second: np.ndarray) -> float:
    """By how many pixels two convex polygons lie in each other, at most 0 if they do not: the least
    over the directions of their edges.
    """
    depth = np.inf
    for corners in (first, second):
        for edge in np.diff(corners, axis=0, append=corners[:1]):
            across = np.array([-edge[1], edge[0]]) / (np.hypot(*edge) or 1)
            one, other = first @ across, second @ across
            depth = min(depth, min(one.max(), other.max()) - max(one.min(), other.min()))
    return depth


def find_overprints(texts: list[tuple[str, np.ndarray]]) -> Iterator[str]:
    """Texts that lie on other texts."""
    for (said, first), (also, second) in itertools.combinations(texts, 2):
        if share_depth(first, second) > TOUCH:
            yield f"{said!r} lies on {also!r}"


def find_cut_off(figure: Figure, texts: list[tuple[str, np.ndarray]]) -> Iterator[str]:
    """Texts that reach beyond the canvas."""
    for said, corners in texts:
        beyond = max(
            (-corners.min(0)).max(),
            (corners.max(0) - [figure.bbox.width, figure.bbox.height]).max(),
        )
        if beyond > CUT:
            yield f"{said!r} reaches {beyond:.0f} pixels beyond the canvas"


def find_covered(figure: Figure) -> Iterator[str]:
    """Lines, points and error bars that run through what a legend says."""
    for ax in figure.findobj(Axes):
        legend = ax.get_legend()
        if legend is None or not ax.get_visible():
            continue
        boxes = [find_row(legend, text) for text in legend.get_texts()]
        names = [text.get_text() for text in legend.get_texts()]
        for line in (
            *ax.lines,
            *(each for each in ax.collections if isinstance(each, LineCollection)),
        ):
            said = [name for name, box in zip(names, boxes, strict=True) if runs_through(line, box)]
            if said:
                yield f"the line {line.get_label()!r} runs through the legend's {said[0]!r}"


def find_row(legend: Legend, text: Text) -> Bbox:
    """The box of a text in a legend with the sample of the line that it names."""
    box = text.get_window_extent().padded(-NEAR)
    letter = text.get_fontsize() * text.figure.dpi / 72
    box.x0 -= (legend.handlelength + legend.handletextpad) * letter
    return box


def runs_through(line: Line2D | LineCollection, box: Bbox) -> bool:
    """Whether a visible line, or a point of it, lies in a box of pixels."""
    if isinstance(line, LineCollection):
        paths = map(line.get_transform().transform_path, line.get_paths())
        return line.get_visible() and any(path.intersects_bbox(box, filled=False) for path in paths)
    if not line.get_visible() or not len(line.get_xdata()):
        return False
    points = line.get_transform().transform(line.get_xydata())
    points = np.clip(points[np.isfinite(points).all(1)], -1e6, 1e6)
    inside = (points >= [box.x0, box.y0]) & (points <= [box.x1, box.y1])
    has_marker = line.get_marker() not in ("", " ", "None", None)
    if has_marker and inside.all(1).any():
        return True
    has_line = line.get_linestyle() not in ("", " ", "None")
    path = line.get_transform().transform_path(line.get_path())
    return has_line and path.intersects_bbox(box, filled=False)


def find_empty(figure: Figure) -> Iterator[str]:
    """Axes in which nothing is drawn but frames and lines across."""
    for place, ax in enumerate(figure.axes):
        if (
            ax.axison
            and ax.get_visible()
            and not any(is_data(artist, ax) for artist in ax.get_children())
        ):
            yield f"axes {place} ({ax.get_title() or ax.get_xlabel() or 'no title'}) is empty"


def is_data(artist, ax: Axes) -> bool:
    """Whether an artist shows a number of a table: a finite point in the view, an area, an image."""
    if artist is ax.patch or artist in ax.spines.values() or not artist.get_visible():
        return False
    if isinstance(artist, Line2D):
        return artist.get_transform() == ax.transData and _is_seen(artist.get_xydata(), ax)
    if isinstance(artist, Collection):
        offsets = artist.get_offsets()
        paths = artist.get_paths()
        if artist.get_offset_transform() == ax.transData and len(offsets):
            return _is_seen(np.asarray(offsets, dtype=float), ax)
        return any(_is_seen(path.vertices, ax) for path in paths)
    if isinstance(artist, Patch):
        return artist.get_data_transform() == ax.transData and artist.get_window_extent().width > 0
    return bool(ax.images)


def _is_seen(points: np.ndarray, ax: Axes) -> bool:
    points = np.asarray(points, dtype=float)
    if not len(points):
        return False
    (left, right), (bottom, top) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    x, y = points.T
    return bool(((x >= left) & (x <= right) & (y >= bottom) & (y <= top)).any())
