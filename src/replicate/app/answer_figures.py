"""The figure beside each answer: drawn from the records at the answer's preset, kept as docs/figures/<source>.png with the
hash of what it shows.
"""

import ast
import hashlib
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from replicate import paths, runs
from replicate.app import answers
from replicate.sources.protocol import Source

SHARPNESS = 150  # 1500 pixels for ten inches
COLOURS_KEPT = 128  # of the palette; lines and their blends with white need no more
TEXT_CHUNK = "Description"  # a text chunk that every reader of PNG knows


def write(source: Source) -> None:
    """Draw the figure of a source anew, where it does not show today's records."""
    path = path_of(source)
    if not is_current(source) and (wanted := _hash(source)):
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.write_atomic(path, _draw(source, wanted))


def is_current(source: Source) -> bool:
    """Whether the figure shows today's records, drawn by today's code; True where there is none to draw."""
    path, wanted = path_of(source), _hash(source)
    return not wanted or (path.exists() and _read_hash(path) == wanted)


def path_of(source: Source) -> Path:
    """Where the figure lies."""
    return paths.ROOT / "docs" / "figures" / f"{source.name}.png"


def _plot(source: Source) -> Callable | None:
    from replicate.plots import answers as plots

    return getattr(plots, f"draw_{source.name}", None)


def _arguments(source: Source) -> dict[str, bool]:
    """Experiments that the figure shows, and whether by their judged tables, not by their recorded ones."""
    from replicate.plots.answers import Judged

    plot = _plot(source)
    parameters = inspect.signature(plot).parameters if plot else {}
    return {name: each.annotation is Judged for name, each in parameters.items()}


def _tables(source: Source) -> Iterator[pd.DataFrame]:
    """What is drawn."""
    preset = answers.preset_of(source)
    for name, judged in _arguments(source).items():
        table = runs.load_recorded(source[name], preset)
        yield source[name].derive_table(table) if judged else table


def _code(source: Source) -> list[str]:
    """What draws the figure, and what judges the tables in it."""
    from replicate.plots import answers as plots

    judges = [source[name].derive for name, judged in _arguments(source).items() if judged]
    modules = [plots, *(sys.modules[each.__module__] for each in judges)]
    return [ast.dump(ast.parse(inspect.getsource(each))) for each in modules]


def _hash(source: Source) -> str:
    """Of the recorded tables and of the code that draws them; "" where one of them is not recorded."""
    preset = answers.preset_of(source)
    files = [runs.record_file(source.name, name, preset) for name in _arguments(source)]
    if not preset or not files or not all(path.exists() for path in files):
        return ""
    shown = [runs.checksum_of(path) for path in files]
    return hashlib.sha256(f"{shown} {_code(source)}".encode()).hexdigest()[:16]


def draw_answer(source: Source) -> None:
    """Draw the figure, for pyplot to keep."""
    _plot(source)(*_tables(source))


def _draw(source: Source, wanted: str) -> bytes:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    draw_answer(source)
    drawn, stored, text = io.BytesIO(), io.BytesIO(), PngInfo()
    plt.savefig(drawn, dpi=SHARPNESS)
    plt.close("all")
    text.add_text(TEXT_CHUNK, wanted)
    image = Image.open(drawn).convert("RGB").quantize(COLOURS_KEPT)
    image.save(stored, "png", optimize=True, pnginfo=text)
    return stored.getvalue()


def _read_hash(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return image.text.get(TEXT_CHUNK, "")
