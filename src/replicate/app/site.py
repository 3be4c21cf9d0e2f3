"""The report: every verdict and every executed notebook as pages that need neither a server nor a
network.
"""

import html
import io
import re
import shutil
from pathlib import Path

import pandas as pd

from replicate import claims, paths
from replicate.app import api, readme, registry, verdicts
from replicate.app.extras import explain
from replicate.errors import Failure, Unavailable
from replicate.sources.protocol import Source

# What a phone shows without scrolling comes first.
PAGE_COLUMNS = ("claim", "verdict", "value", "band", "statement", "reason", "control", "setting", "case", "role", "origin", "where",
                "quote", "contrast", "unit", "n", "p", "p_adjusted", "device")  # fmt: skip
STATIC = Path(__file__).resolve().parent / "static"
OPTIONS = {
    "project": "replicate",
    "extensions": ["myst_nb", api.EXTENSION, "replicate.app.site"],
    "autoclass_content": "both",  # what making one raises stands at __init__
    "autodoc_preserve_defaults": True,
    "html_theme": "pydata_sphinx_theme",
    "html_theme_options": {
        "secondary_sidebar_items": [],
        "footer_start": [],
        "footer_end": [],
        "icon_links": [],
    },
    "html_title": "replicate",
    "html_static_path": [str(STATIC)],
    "html_css_files": ["claims.css"],
    "html_js_files": [("claims.js", {"defer": "defer"})],
    "html_sidebars": {"**": []},
    "html_math_renderer": "drawn",
    "html_show_sourcelink": False,
    "html_copy_source": False,
    "myst_enable_extensions": ["dollarmath"],
    "nb_execution_mode": "off",
    "nb_ipywidgets_js": {},  # would be fetched from a server
    "suppress_warnings": ["myst.header", "mystnb.unknown_mime_type"],
}

OUTSIDE_DOCS = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")  # a link to what the report does not hold


def build() -> Path:
    """Write the report to `build/report/html/`; the path of its first page.

    An older report stays until the new one is whole. Raises Unavailable without the extra `report`,
    and Failure, which names the log, if a page cannot be built.
    """
    try:
        from sphinx.application import Sphinx
        from sphinx.errors import SphinxError
    except ImportError as error:
        raise Unavailable(explain(error) or str(error)) from None
    home = paths.BUILD / "report"
    pages, unfinished, log = home / "source", home / "html.part", home / "log.txt"
    for folder in (pages, unfinished, home / "doctrees"):
        shutil.rmtree(folder, ignore_errors=True)
    pages.mkdir(parents=True)
    write_pages(pages)
    messages = io.StringIO()
    try:
        app = Sphinx(
            pages,
            None,
            unfinished,
            home / "doctrees",
            "html",
            dict(OPTIONS),
            status=messages,
            warning=messages,
            warningiserror=True,
        )
        app.build()
    except (SphinxError, OSError) as error:
        raise Failure(
            f"the report could not be built ({str(error).splitlines()[0]}); see {log}"
        ) from None
    finally:
        paths.write_atomic(log, messages.getvalue().encode())
    if app.statuscode:
        raise Failure(f"the report could not be built; see {log}")
    shutil.rmtree(home / "html", ignore_errors=True)
    unfinished.rename(home / "html")
    return home / "html" / "index.html"


def write_pages(folder: Path) -> None:
    """The report's pages as Markdown and notebooks: the answers, two pages a source, and docs/."""
    names = [source.name for source in registry.sources()]
    entries = [entry for name in names for entry in (f"verdicts-{name}", name)]
    shutil.copytree(paths.ROOT / "docs", folder / "docs")
    for page in sorted((folder / "docs").glob("*.md")):
        page.write_text(OUTSIDE_DOCS.sub(r"\1", page.read_text(encoding="utf-8")), encoding="utf-8")
        entries.append(f"docs/{page.stem}")
    (folder / "api.md").write_text(api.page(), encoding="utf-8")
    entries.append("api")
    toc = "\n".join(["```{toctree}", ":hidden:", "", *entries, "```"])
    answers = readme.tables().replace("](notebooks/", "](")
    start = f"# replicate\n\n{toc}\n\n{answers}\n\n[How to read a verdict](docs/verdicts.md)\n"
    (folder / "index.md").write_text(start)
    for name in names:
        (folder / f"verdicts-{name}.md").write_text(verdict_page(registry.source(name)))
        shutil.copyfile(largest_notebook(name), folder / f"{name}.ipynb")


def largest_notebook(name: str) -> Path:
    """The notebook that was executed at the largest preset, else the stored one."""
    executed = [paths.BUILD / preset / f"{name}.ipynb" for preset in reversed(claims.PRESETS)]
    return next((path for path in executed if path.exists()), paths.NOTEBOOKS / f"{name}.ipynb")


def verdict_page(source: Source) -> str:
    """All rows of a source at every preset that is recorded, or what stands in its claims file if
    none is.
    """
    paragraphs = [f"# Verdicts: {source.name}", html.escape(source.title)]
    tables = {preset: verdicts.read_recorded(source, preset) for preset in claims.PRESETS}
    tables = {preset: table for preset, table in tables.items() if not table.empty}
    if not tables:
        paragraphs.append("Nothing is recorded yet; these are the claims.")
        tables = {"cpu": claims.judge(source.name, registry.claims_of(source), [], "cpu")}
    anchored: set[str] = set()
    for preset, table in tables.items():
        paragraphs.append(f"## Preset {preset}")
        paragraphs += [
            f"Made by older code: {experiment}."
            for experiment in registry.list_older(source, preset)
        ]
        untested = table.verdict == "not tested"
        paragraphs.append(html_table(pd.concat([table[~untested], table[untested]]), anchored))
    return "\n\n".join(paragraphs) + "\n"


def html_table(table: pd.DataFrame, anchored: set[str]) -> str:
    """The rows as HTML that a script filters and sorts; the first row of each claim is an anchor by
    the claim's id, unless it is in `anchored`.
    """
    head = "".join(
        f'<th scope="col"><button type="button">{column}</button></th>' for column in PAGE_COLUMNS
    )
    rows = []
    for row in table.itertuples():
        anchor = "" if row.claim in anchored else f' id="{html.escape(row.claim)}"'
        anchored.add(row.claim)
        cells = "".join(f"<td>{html.escape(_text(row, column))}</td>" for column in PAGE_COLUMNS)
        rows.append(f'<tr{anchor} data-verdict="{html.escape(row.verdict)}">{cells}</tr>')
    body = "\n".join(rows)
    words = "".join(f"<option>{word}</option>" for word in dict.fromkeys(table.verdict) if word)
    return (
        f'<form class="claims" hidden><label>Words <input type="search"></label> '
        f'<label>Verdict <select><option value="">all</option>{words}</select></label> <output></output></form>\n'
        f'<div class="pst-scrollable-table-container"><table class="table claims">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _text(row, column: str) -> str:
    match column:
        case "value":
            return "" if pd.isna(row.value) else verdicts.number(row)
        case "band":
            return verdicts.band(row)
        case "control":
            return verdicts.control(row)
        case "p" | "p_adjusted":
            return "" if pd.isna(getattr(row, column)) else f"{getattr(row, column):.2g}"
    return str(getattr(row, column))


def setup(app) -> dict:
    """What Sphinx calls: formulas are drawn here, because MathJax would be fetched from a server."""
    api.connect(app)
    app.add_html_math_renderer("drawn", (_visit_math, None), (_visit_math, None))
    return {"parallel_read_safe": True}


def _visit_math(writer, node) -> None:
    from docutils.nodes import SkipNode

    writer.body.append(_draw(node.astext()))
    raise SkipNode


def _draw(formula: str) -> str:
    """A formula as a picture within the page, or as its source where matplotlib cannot draw it."""
    from matplotlib.mathtext import math_to_image

    picture = io.StringIO()
    try:
        math_to_image(f"${formula}$", picture, format="svg")
    except ValueError:
        return f"<code>{html.escape(formula)}</code>"
    svg = picture.getvalue()
    return svg[svg.index("<svg") :].replace("<svg ", '<svg style="vertical-align: middle" ', 1)
