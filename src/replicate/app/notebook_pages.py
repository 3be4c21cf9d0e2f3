"""A notebook as a page of the report: its figures in words, with links from them to the claims and back."""

import base64
import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SHOWN_EXPERIMENT = re.compile(r'\b(?:run|draw|read_recorded)\(\[?"(\w+)"')
SECTION_TITLE = re.compile(r"^## (.*)$", re.MULTILINE)
WHAT_TO_SEE = re.compile(r"\*\*What to see:\*\*(.*?)(?:\n\n|\Z)", re.DOTALL)
MARKDOWN_MARKS = re.compile(r"[$*`]")


class Figure(NamedTuple):
    """A figure for the sheet of all of them."""

    link: str  # the section of the notebook's page in which it stands
    alt: str
    png: bytes


class Section(NamedTuple):
    """A titled cell of text and the code below it."""

    anchor: str
    text: dict
    code: list[dict]

    @property
    def experiments(self) -> list[str]:
        """The experiments whose tables are shown here, in order."""
        return list(
            dict.fromkeys(
                name for cell in self.code for name in SHOWN_EXPERIMENT.findall(cell["source"])
            )
        )

    @property
    def alt(self) -> str:
        """What one sees in the section's figures: its title, and what it says is to be seen."""
        title, seen = (
            SECTION_TITLE.search(self.text["source"]),
            WHAT_TO_SEE.search(self.text["source"]),
        )
        said = f"{title[1]}: {seen[1].strip()}" if seen else title[1]
        return " ".join(MARKDOWN_MARKS.sub("", said).split())


class Notebook:
    """A notebook on its way into the report. path: the file; name: of its page."""

    def __init__(self, path: Path, name: str) -> None:
        import nbformat

        self.name = name
        self.cells = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        self.sections = list(self._split())

    def places(self) -> dict[str, str]:
        """Experiment -> link to the first section that shows it."""
        links: dict[str, str] = {}
        for section in self.sections:
            for experiment in section.experiments:
                links.setdefault(experiment, f"{self.name}.html#{section.anchor}")
        return links

    def figures(self) -> Iterator[Figure]:
        """The figures that are stored in it, in order."""
        for section in self.sections:
            for cell in section.code:
                for output in cell["outputs"]:
                    if picture := output.get("data", {}).get("image/png"):
                        yield Figure(
                            f"{self.name}.html#{section.anchor}",
                            section.alt,
                            base64.b64decode(picture),
                        )

    def write(self, path: Path, decided: Mapping[str, str]) -> None:
        """Write the page's notebook. decided: experiment -> links to the claims that it decides, as HTML."""
        import nbformat

        shown: set[str] = set()
        for section in self.sections:
            section.text["source"] = f"({section.anchor})=\n{section.text['source']}"
            for cell in section.code:
                cell["metadata"]["mystnb"] = {"image": {"alt": section.alt}}
            links = [
                decided[name]
                for name in section.experiments
                if name in decided and name not in shown
            ]
            shown.update(section.experiments)
            if links:
                at = self.cells["cells"].index(section.code[-1]) + 1
                self.cells["cells"].insert(at, nbformat.v4.new_markdown_cell("\n".join(links)))
        nbformat.write(self.cells, path)

    def _split(self) -> Iterator[Section]:
        section = None
        for number, cell in enumerate(self.cells["cells"]):
            if cell["cell_type"] == "markdown" and SECTION_TITLE.search(cell["source"]):
                if section:
                    yield section
                section = Section(f"{self.name}-{number}", cell, [])
            elif cell["cell_type"] == "code" and section:
                section.code.append(cell)
        if section:
            yield section


def sheet(figures: Mapping[str, Figure]) -> str:
    """All figures side by side as HTML. figures: address of the picture -> the figure."""
    items = "".join(
        f'<li><a href="{figure.link}"><img src="{address}" alt="{html.escape(figure.alt)}" loading="lazy"></a></li>'
        for address, figure in figures.items()
    )
    return f'<ul class="sheet">{items}</ul>'
