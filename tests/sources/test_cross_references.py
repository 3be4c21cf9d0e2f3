"""References and labels are those of the texts, and slips are counted, not taken for granted."""

import re

import pytest

from replicate import paths
from replicate.sources.fabi2021extrapolation import cross_references as of_extrapolation
from replicate.sources.fabi2021extrapolation.presets import ALGEBRA as EXTRAPOLATION
from replicate.sources.sandler2023trajectories import cross_references as of_trajectories
from replicate.sources.sandler2023trajectories.presets import ALGEBRA as TRAJECTORIES

TEXTS = paths.ROOT.parent / "shared" / "sources"  # beside a checkout, where they are at hand


def read(number: str) -> str:
    """A source's text with all white space collapsed."""
    files = list(TEXTS.glob(f"{number}_*.txt"))
    if not files:
        pytest.skip(
            f"the texts of the sources are not at hand in {TEXTS.name}/ beside the checkout"
        )
    return " ".join(files[0].read_text().split())


def test_labels_and_references_are_those_of_the_text():
    text = read("000")
    assert re.findall(r"\\label\{eq:(\w+)\}", text) == of_extrapolation.EQUATION_LABELS
    assert set(re.findall(r"\\(?:eq)?ref\{eq:(\w+)\}", text)) == set(of_extrapolation.REFERENCES)


def test_one_reference_leads_nowhere_and_would_be_seen_to_lead_somewhere(monkeypatch):
    (settings,) = EXTRAPOLATION.values()
    (row,) = of_extrapolation.cross_references(settings).to_dict("records")
    assert row == {"claim": "X-17", "case": "bdfApproximation", "value": 0, "control": 1}
    monkeypatch.setattr(
        of_extrapolation, "EQUATION_LABELS", [*of_extrapolation.EQUATION_LABELS, "bdfApproximation"]
    )
    assert of_extrapolation.cross_references(settings).value.tolist() == [1]


def test_references_and_numbers_stand_in_the_paper():
    text = read("004")
    for words in (*of_trajectories.SLIPS, *of_trajectories.RIGHT_REFERENCES):
        assert words in text
    assert "starting from the loss value 1.81.81.8 results in a final loss of 0.50.50.5" in text


def test_a_target_of_two_nouns_is_a_slip():
    count = of_trajectories.count_contradictions
    assert count(["section Figure 4", "Section 4", "Lemma 2", "lemma Figure 7"]) == 2
    assert count(["Figure 4", "the lemma of Table 1"]) == 1 and count([]) == 0


def test_rows_of_the_paper():
    (settings,) = TRAJECTORIES.values()
    rows = of_trajectories.cross_references(settings).set_index("claim")
    assert rows.value["E-18"] == 2 and rows.control["E-18"] == 0
    assert 10 ** rows.value["E-19"] == pytest.approx(3.6)
