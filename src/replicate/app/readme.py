"""README's answers and counts, rendered from data/results/."""

import html
import textwrap
from importlib.metadata import metadata

import pandas as pd

from replicate import claims, paths, runs
from replicate.app import answers, benchmarks, registry, verdicts
from replicate.errors import BadData

MARKS = ("<!-- verdicts: written by make readme -->", "<!-- end of verdicts -->")

ANSWER_FIGURES = "docs/figures"
COUNTED = (
    "**How many claims came out how.** A firm word needs five seeds and the source's own setting; `control fails` counts reproduced claims whose "
    "effect is gone without the claimed mechanism. At `night`, `not tested` has not run there."
)


def read() -> str:
    """README.md: the repository's, or the one that an installed package brought as its description."""
    if paths.IS_CHECKOUT:
        return (paths.ROOT / "README.md").read_text(encoding="utf-8")
    return str(metadata("replicate").get_payload())


def render(text: str) -> str:
    """README.md with answers and counts made anew. Raises BadData if the two marks are not there."""
    before, _, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise BadData(f"README.md must hold the lines {MARKS[0]} and {MARKS[1]}")
    return f"{before}{MARKS[0]}\n{tables()}\n{MARKS[1]}{after}"


def tables() -> str:
    """The answers, each with its figure, then how many claims came out how, as Markdown."""
    rows = {(source.name, preset): verdicts.read_recorded(source, preset)
            for source in registry.sources() for preset in claims.PRESETS}  # fmt: skip
    rows = {key: table for key, table in rows.items() if not table.empty}
    if not rows:
        return "Nothing is recorded yet."
    said = [answers.answer(source) for source in sorted(registry.sources(), key=_is_ours)]
    paragraphs = [_answer(each) for each in said if each]
    paragraphs += [textwrap.fill(COUNTED, answers.PROSE_COLUMNS), _headline(rows)]
    paragraphs += [speed for speed in [_speed()] if speed]
    return "\n\n".join(paragraphs)


def _is_ours(source) -> bool:
    """Whether nobody but us makes its claims: what the sources say is answered first."""
    return all(claim.origin == "ours" for claim in registry.claims_of(source))


def _answer(said: answers.Answer) -> str:
    """Heading, sentences, setting, notebook and figure of one source."""
    picture = f"![{said.alt}]({ANSWER_FIGURES}/{said.source}.png)"
    link = f"Notebook: [`{said.source}`](notebooks/{said.source}.ipynb)."
    return "\n\n".join((f"### {said.title}", f"{said.in_markdown()}\n{link}", picture))


def _headline(rows: dict) -> str:
    words = claims.HEADLINE
    lines = [f"| source | preset | what | {' | '.join(words)} |", "|---" * (len(words) + 3) + "|"]
    for (name, preset), table in rows.items():
        for group, counts in claims.headline(table).iterrows():
            if counts.drop(["control fails", "not tested"]).sum():
                lines.append(
                    f"| {name} | {preset} | {group} | {' | '.join(str(counts[word]) for word in words)} |"
                )
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text that stays text in one cell of a table: no markup, no link, no line of its own."""
    return (
        html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("](", "]\\(")
    )


def _speed() -> str:
    """What was measured of speed on a GPU, one row per goal; empty if nothing is recorded."""
    if not benchmarks.are_there():
        return ""
    experiments = benchmarks.experiments().values()
    tables = [runs.load_recorded(experiment, "gpu") for experiment in experiments]
    tables = [table for table in tables if not table.empty]
    if not tables:
        return ""
    rows = pd.concat(tables, ignore_index=True)
    lines = [
        "| goal | what | wanted | median [smallest, largest round] | met |",
        "|---|---|---|---|---|",
    ]
    for row in rows.itertuples():
        number, wanted = benchmarks.goal_in_words(row.goal)
        cells = [number, row.what, wanted, f"{verdicts.number(row)} {row.unit}", row.met]
        lines.append(f"| {' | '.join(map(escape, cells))} |")
    return f"**Speed on {escape(', '.join(sorted(rows.device.unique())))}**\n\n" + "\n".join(lines)
