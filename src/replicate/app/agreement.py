"""docs/agreement.md: where the verdicts of one data set are not those of another, from data/results/."""

from pathlib import Path

import pandas as pd

from replicate import claims, paths
from replicate.app import gain_ratios, registry, verdicts
from replicate.sources.protocol import Source

HEAD = """\
# Do the data sets agree?

(Written by `make readme`.) A claim that holds on digits need not hold on CIFAR-10. Below, the same cell of a claim
(the same arms, window, kernel) is held against its band on each data set that measured it with five seeds or more.
`agree`: the intervals lie on the same side of the band's edges. `differ`: on one data set the whole interval lies
inside, on another outside. `open`: an interval reaches over an edge. Whether a row has a firm word does not matter
here.
"""


def path() -> Path:
    """Where the page lies."""
    return paths.ROOT / "docs" / "agreement.md"


def render() -> str:
    """The page: counts of each source, then every cell in which data sets differ, with its values."""
    compared = {source.name: _compare(source) for source in registry.sources()}
    compared = {name: rows for name, rows in compared.items() if not rows.empty}
    words = (claims.AGREE, claims.DIFFER, claims.OPEN)
    counts = [f"| source | {' | '.join(words)} |", "|---" * (1 + len(words)) + "|"]
    for name, rows in compared.items():
        cells = [str(int((rows.word == word).sum())) for word in words]
        counts.append(f"| {name} | {' | '.join(cells)} |")
    parts = [HEAD, "\n".join(counts)]
    for name, rows in compared.items():
        parts.append(_list_differences(name, rows))
        if name == gain_ratios.SOURCE_OF_SPECTRA:
            parts.append(gain_ratios.render())
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _compare(source: Source) -> pd.DataFrame:
    tables = [verdicts.read_recorded(source, preset) for preset in claims.PRESETS]
    return claims.compare_data_sets(pd.concat(tables, ignore_index=True))


def _list_differences(name: str, rows: pd.DataFrame) -> str:
    """Each cell in which data sets differ: the statement, and where each data set lies."""
    differing = rows[rows.word == claims.DIFFER]
    if differing.empty:
        return ""
    lines = [f"## {name}", "", "| claim | in words | cell | where each lies |", "|---|---|---|---|"]
    for row in differing.itertuples():
        places = "; ".join(
            f"{dataset} {row.values[dataset]:.3g}, {place}" for dataset, place in row.places.items()
        )
        lines.append(f"| {row.claim} | {row.statement} | {row.cell} | {places} |")
    return "\n".join(lines)
