"""The figure beside each answer: drawn from the records, kept as docs/figures/<source>.png with the hash of what it shows."""

import ast
import hashlib
import inspect
import io
from collections.abc import Callable
from pathlib import Path

from replicate import claims, paths, runs
from replicate.app import registry
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
    from replicate.plots import answers

    return getattr(answers, f"draw_{source.name}", None)


def list_experiments(source: Source) -> list[str]:
    """The experiments that the figure shows."""
    plot = _plot(source)
    return list(inspect.signature(plot).parameters) if plot else []


def _hash(source: Source) -> str:
    """Of the recorded tables and of the code that draws them; "" where one of them is not recorded."""
    from replicate.plots import answers

    tables = []
    for name in list_experiments(source):
        files = [runs.record_file(source.name, name, preset) for preset in claims.PRESETS]
        tables.append([runs.checksum_of(path) for path in files if path.exists()])
    if not tables or not all(tables):
        return ""
    return hashlib.sha256(
        f"{tables} {ast.dump(ast.parse(inspect.getsource(answers)))}".encode()
    ).hexdigest()[:16]


def draw_answer(source: Source) -> None:
    """Draw the figure, for pyplot to keep."""
    tables = [registry.read_largest(source, name, "smoke") for name in list_experiments(source)]
    _plot(source)(*tables)


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
