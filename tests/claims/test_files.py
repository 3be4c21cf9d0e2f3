"""What the claims files say of their rows: a quote that stands in the source, a margin with its
reason, one fact in one row.
"""

import re
from collections import Counter

import pytest

from replicate import paths
from replicate.app import registry
from replicate.sources.protocol import names

TEXTS = paths.ROOT.parent / "shared" / "sources"  # beside a checkout, where they are at hand
NUMBERS = {  # of the text of each source
    "fabi2021extrapolation": "000",
    "warmerdam2020descent": "001",
    "zhang2019lookahead": "003",
    "sandler2023trajectories": "004",
}
WORDS_OF_A_QUOTE = range(3, 41)


def rows(name: str) -> list:
    return registry.claims_of(registry.source(name))


def in_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Source -> its text with all white space collapsed."""
    files = {name: list(TEXTS.glob(f"{number}_*.txt")) for name, number in NUMBERS.items()}
    if not all(files.values()):
        pytest.skip(
            f"the texts of the sources are not at hand in {TEXTS.name}/ beside the checkout"
        )
    return {name: in_one_line(found[0].read_text()) for name, found in files.items()}


def test_what_has_no_text_is_all_ours():
    assert {name for name in names() if {row.origin for row in rows(name)} == {"ours"}} == (
        set(names()) - set(NUMBERS)
    )


@pytest.mark.parametrize("name", NUMBERS)
def test_every_quote_stands_in_the_source(name, texts):
    absent = [row.id for row in rows(name) if in_one_line(row.quote) not in texts[name]]
    assert not absent, f"{len(absent)} quotes are not in the text: {', '.join(absent)}"


def test_a_changed_quote_is_noticed(texts):
    row = next(row for row in rows("sandler2023trajectories") if len(row.quote.split()) > 5)
    words = row.quote.split()
    swapped = " ".join([words[1], words[0], *words[2:]])
    assert in_one_line(row.quote) in texts["sandler2023trajectories"]
    assert in_one_line(swapped) not in texts["sandler2023trajectories"]


@pytest.mark.parametrize("name", names())
def test_what_is_the_sources_has_its_words(name):
    without = [row.id for row in rows(name) if row.origin == "source" and not row.quote]
    assert not without, f"{len(without)} rows of the source have no quote: {', '.join(without)}"
    strange = [
        row.id for row in rows(name) if row.quote and len(row.quote.split()) not in WORDS_OF_A_QUOTE
    ]
    assert not strange, f"quotes that are too short or too long: {', '.join(strange)}"


@pytest.mark.parametrize("name", names())
def test_every_row_says_whose_it_is_and_where_its_band_comes_from(name):
    found = rows(name)
    assert not [row.id for row in found if not row.origin]
    assert not [row.id for row in found if row.experiments and not row.margin]


@pytest.mark.parametrize("name", names())
def test_no_two_rows_ask_the_same(name):
    asked = Counter(
        (
            str(row.experiment),
            str(row.contrast),
            row.band,
            str(row.primary),
            row.id * (row.contrast.get("name") == "exact"),
        )
        for row in rows(name)
        if row.experiments
    )
    twice = [key for key, count in asked.items() if count > 1]
    assert not twice, twice


@pytest.mark.parametrize("name", names())
def test_measured_seconds_are_held_against_the_same_work_twice(name):
    def seconds(row) -> bool:
        arms = [arm for arm in row.contrast.get("arms", ()) if isinstance(arm, dict)]
        return any("seconds" in str(part.get("metric", "")) for part in (row.contrast, *arms))

    bare = [row.id for row in rows(name) if row.has_interval and seconds(row) and not row.level]
    assert not bare, f"rows that judge seconds without `level`: {', '.join(bare)}"
