"""The report: every verdict and every executed notebook as pages that need neither a server nor a
network.
"""

import html
import io
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from replicate import claims, paths, progress
from replicate.app import (
    api,
    claim_cards,
    folds,
    formulas,
    notebook_pages,
    page_policy,
    readme,
    registry,
    verdicts,
)
from replicate.app.extras import explain
from replicate.errors import Failure, Unavailable
from replicate.sources.protocol import Source, names

# What a phone shows without scrolling comes first.
PAGE_COLUMNS = ("claim", "verdict", "value", "band", "statement", "reason", "control", "setting", "case", "role", "origin", "where",
                "quote", "contrast", "unit", "n", "p", "p_adjusted", "device")  # fmt: skip
ALL_COLUMNS = (
    "claim",
    "verdict",
    "value",
    "band",
    "statement",
    "control",
    "setting",
    "origin",
    "where",
    "preset",
)
ABOVE_CARDS = "By figure, table or section of the source. A claim opens to its quotation, band, interval, control and the command that makes it again."
ABOVE_OLDER = (
    "Made by older code, so still measured but perhaps not what today's code would give; "
    "`make replicate` runs it anew:"
)
COPIED = "extra"  # below the pages: files that are copied as they are
STATIC = Path(__file__).resolve().parent / "static"
OPTIONS = {
    "project": "replicate",
    "extensions": ["myst_nb", api.AUTODOC, "replicate.app.site"],
    "autoclass_content": "both",  # what making one raises stands at __init__
    "autodoc_preserve_defaults": True,
    "html_theme": "pydata_sphinx_theme",
    "html_theme_options": {
        "secondary_sidebar_items": [],
        "footer_start": [],
        "footer_end": [],
        "icon_links": [],
        "header_links_before_dropdown": 4,
    },
    "html_title": "replicate",
    "html_static_path": [str(STATIC)],
    "html_css_files": ["claims.css"],
    "html_js_files": [("claims.js", {"defer": "defer"})],
    "html_sidebars": {"**": []},
    "html_math_renderer": "mathml",
    "html_show_sourcelink": False,
    "html_copy_source": False,
    "html_domain_indices": False,
    "myst_enable_extensions": ["dollarmath"],
    "nb_execution_mode": "off",
    "nb_ipywidgets_js": {},  # would be fetched from a server
    "suppress_warnings": ["myst.header", "mystnb.unknown_mime_type"],
}

OUTSIDE_DOCS = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")  # a link to what the report does not hold


def build(say: Callable[[str], object] = lambda line: None) -> Path:
    """Write the report to `build/report/html/`; the path of its first page. say: told a line per page.

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
    with progress.task("the records"):
        write_pages(pages)
    messages = io.StringIO()
    try:
        app = Sphinx(
            pages,
            None,
            unfinished,
            home / "doctrees",
            "html",
            OPTIONS
            | {
                "html_extra_path": [str(pages / COPIED)],
                "folded_pages": ["api", "docs/agreement", *names()],
            },
            status=messages,
            warning=messages,
            warningiserror=True,
        )
        app.connect("html-page-context", lambda app, page, *_: say(page))
        with progress.task("the pages"):
            app.build()
    except (SphinxError, OSError) as error:
        raise Failure(
            f"the report could not be built ({str(error).splitlines()[0]}); see {log}"
        ) from None
    finally:
        paths.write_atomic(log, messages.getvalue().encode())
    if app.statuscode:
        raise Failure(f"the report could not be built; see {log}")
    page_policy.seal(unfinished)
    shutil.rmtree(home / "html", ignore_errors=True)
    unfinished.rename(home / "html")
    return home / "html" / "index.html"


def write_pages(folder: Path) -> None:
    """The report's pages as Markdown and notebooks: the answers, all claims, two pages a source, and docs/."""
    sources = registry.sources()
    shutil.copytree(paths.ROOT / "docs", folder / "docs")
    for page in (folder / "docs").glob("*.md"):
        page.write_text(OUTSIDE_DOCS.sub(r"\1", page.read_text(encoding="utf-8")), encoding="utf-8")
    tables = {source.name: _read_tables(source) for source in sources}
    notebooks = {
        source.name: notebook_pages.Notebook(largest_notebook(source.name), source.name)
        for source in sources
    }
    for source in sources:
        notebook, judged = notebooks[source.name], tables[source.name]
        page = verdict_page(source, judged, notebook.places())
        (folder / f"verdicts-{source.name}.md").write_text(page)
        notebook.write(folder / f"{source.name}.ipynb", claim_links(source, judged))
    (folder / "api.md").write_text(api.page(), encoding="utf-8")
    (folder / "claims.md").write_text(claims_page(tables))
    (folder / "figures.md").write_text(figures_page(folder, notebooks))
    (folder / "index.md").write_text(first_page(folder, [source.name for source in sources]))


def first_page(folder: Path, names: list[str]) -> str:
    """The answers, and the order of all pages."""
    first = ["docs/which", "claims", "figures", "api"]
    entries = [*first, *(entry for name in names for entry in (name, f"verdicts-{name}"))]
    entries += [f"docs/{page.stem}" for page in sorted((folder / "docs").glob("*.md"))]
    toc = "\n".join(["```{toctree}", ":hidden:", "", *dict.fromkeys(entries), "```"])
    answers = readme.tables().replace("](notebooks/", "](")
    ways = (
        "[Which one should I use, and does it help?](docs/which.md) | [All claims](claims.md) | "
        "[All figures](figures.md) | [The library](api.md) | [How to read a verdict](docs/verdicts.md)"
    )
    return f"# replicate\n\n{toc}\n\n{ways}\n\n{answers}\n"


def _read_tables(source: Source) -> dict[str, pd.DataFrame]:
    """Preset -> what is recorded there; the bare claims if nothing is."""
    tables = {preset: verdicts.read_recorded(source, preset) for preset in claims.PRESETS}
    tables = {preset: table for preset, table in tables.items() if not table.empty}
    return tables or {"cpu": claims.judge(source.name, registry.claims_of(source), [], "cpu")}


def claims_page(tables: Mapping[str, Mapping[str, pd.DataFrame]]) -> str:
    """The primary row of every claim of every source, at the largest preset that tested it."""
    rows = [row for judged in tables.values() for row in claim_cards.pick_rows(judged).values()]
    table = pd.DataFrame([row._asdict() for row in rows])
    return f"# All claims\n\nOne row a claim, of all sources; its name leads to quote, band and control.\n\n{html_table(table, ALL_COLUMNS)}\n"


def figures_page(folder: Path, notebooks: Mapping[str, notebook_pages.Notebook]) -> str:
    """A sheet of all figures; writes the pictures to folder/extra, which Sphinx copies."""
    parts = ["# All figures", "Each leads to the section that says what it shows."]
    (folder / COPIED / "sheet").mkdir(parents=True)
    for name, notebook in notebooks.items():
        sheet = {f"sheet/{name}-{i}.png": figure for i, figure in enumerate(notebook.figures())}
        for address, figure in sheet.items():
            (folder / COPIED / address).write_bytes(figure.png)
        parts += [f"## {name}", notebook_pages.sheet(sheet)]
    return "\n\n".join(parts) + "\n"


def claim_links(source: Source, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Experiment -> the claims it decides with their verdicts, each a link to its card."""
    best, links = claim_cards.pick_rows(tables), {}
    decided = [claim for claim in registry.claims_of(source) if claim.id in best]
    for name in source:
        rows = [best[claim.id] for claim in decided if name in claim.experiments]
        items = ", ".join(
            f'<a href="verdicts-{source.name}.html#{row.claim}">{row.claim}</a> {html.escape(row.verdict)}'
            for row in rows
        )
        if items:
            links[name] = (
                f"<details><summary>Claims that {name} decides: {len(rows)}</summary>{items}</details>"
            )
    return links


def largest_notebook(name: str) -> Path:
    """The notebook that was executed at the largest preset, else the stored one."""
    executed = [paths.BUILD / preset / f"{name}.ipynb" for preset in reversed(claims.PRESETS)]
    return next((path for path in executed if path.exists()), paths.NOTEBOOKS / f"{name}.ipynb")


def verdict_page(
    source: Source, tables: Mapping[str, pd.DataFrame], places: Mapping[str, str]
) -> str:
    """A card for every claim of a source, then all rows at every preset. places: experiment -> its figure."""
    cards = claim_cards.write_cards(source, registry.claims_of(source), tables, places)
    paragraphs = [f"# Verdicts: {source.name}", html.escape(source.title), ABOVE_CARDS, cards]
    for preset, table in tables.items():
        paragraphs.append(f"## All rows at preset {preset}")
        if older := registry.list_older(source, preset):
            paragraphs.append(f"{ABOVE_OLDER} {', '.join(older)}.")
        untested = table.verdict == "not tested"
        paragraphs.append(html_table(pd.concat([table[~untested], table[untested]])))
    return "\n\n".join(paragraphs) + "\n"


def html_table(table: pd.DataFrame, columns: Sequence[str] = PAGE_COLUMNS) -> str:
    """The rows as HTML that a script filters and sorts; each claim is a link to its card."""
    head = "".join(
        f'<th scope="col"><button type="button">{column}</button></th>' for column in columns
    )
    rows = []
    for row in table.itertuples():
        cells = "".join(f"<td>{_cell(row, column)}</td>" for column in columns)
        rows.append(f'<tr data-verdict="{html.escape(row.verdict)}">{cells}</tr>')
    body = "\n".join(rows)
    words = "".join(f"<option>{word}</option>" for word in dict.fromkeys(table.verdict) if word)
    return (
        f'<form class="claims" hidden><label>Words <input type="search"></label> '
        f'<label>Verdict <select><option value="">all</option>{words}</select></label> <output></output></form>\n'
        f'<div class="claims" tabindex="0" role="region" aria-label="Table of claims">'
        f'<table class="table claims">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(row, column: str) -> str:
    text = html.escape(_text(row, column))
    if column != "claim":
        return text
    return f'<a href="verdicts-{html.escape(row.source)}.html#{text}">{text}</a>'


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
    """What Sphinx calls: docstrings, formulas and folded sections are written by the modules beside this one."""
    app.add_config_value("folded_pages", [], "env")
    for extension in (api, formulas, folds):
        extension.connect(app)
    return {"parallel_read_safe": True}
