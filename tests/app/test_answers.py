"""A sentence of README takes its numbers from the records, and is refused where they say otherwise."""

import inspect

import matplotlib
import numpy as np
import pandas as pd
import pytest
from records import FILE, SOURCE, write_record

from replicate import claims, paths
from replicate.app import answer_figures, answers, registry, verdicts
from replicate.errors import BadData
from replicate.plots import answers as plots
from replicate.plots.style import move_apart

matplotlib.use("agg")


@pytest.fixture
def say(tmp_path, monkeypatch):
    """say(text): the answer of a source with a record of its own whose sentence is `text`."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "ANSWERS", tmp_path)
    write_record(tmp_path / "results" / "gpu" / SOURCE / FILE)

    def write(text: str) -> answers.Answer:
        lines = (f'{name} = "x"' for name in ("title", "short", "setting", "alt"))
        said = "\n".join(['preset = "gpu"', *lines, f'text = """{text}"""'])
        (tmp_path / f"{SOURCE}.toml").write_text(said)
        return answers.answer(registry.source(SOURCE))

    return write


def decided_row() -> pd.Series:
    """A primary row of the record with an interval."""
    rows = claims.primary_rows(verdicts.read_recorded(registry.source(SOURCE), "gpu"))
    return rows[rows.value.notna() & (rows.low < rows.high)].iloc[0]


def test_a_number_is_the_recorded_one_in_every_form(say):
    say("")
    row = decided_row()
    said = say(
        f"a {{{row.claim}:{row.verdict}}} b {{{row.claim}:{row.verdict} 10^}} c {{{row.claim}:{row.verdict} seeds}}"
    )
    plain, power, seeds = (
        said.text.removeprefix("a ").replace(" b ", "|").replace(" c ", "|").split("|")
    )
    assert plain == f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}]"
    assert float(power.split()[0]) == pytest.approx(10**row.value, rel=5e-3)
    assert seeds == str(row.n)


def test_a_field_can_name_the_row_of_another_preset(say, tmp_path):
    say("")
    row = decided_row()
    write_record(tmp_path / "results" / "gpu" / SOURCE / FILE)
    (tmp_path / f"{SOURCE}.toml").unlink()
    lines = (f'{name} = "x"' for name in ("title", "short", "setting", "alt"))
    text = f"{{gpu/{row.claim}:{row.verdict} value}}"
    said = "\n".join(['preset = "cpu"', *lines, f'text = "{text}"'])
    (tmp_path / f"{SOURCE}.toml").write_text(said)
    assert answers.answer(registry.source(SOURCE)).text == f"{row.value:.3g}"
    (tmp_path / f"{SOURCE}.toml").write_text(said.replace("gpu/", ""))
    with pytest.raises(BadData):  # nothing is recorded at cpu
        answers.answer(registry.source(SOURCE))


def test_a_sentence_that_rests_on_another_verdict_is_refused(say):
    say("")
    row = decided_row()
    other = "contradicted" if row.verdict == "reproduced" else "reproduced"
    with pytest.raises(
        BadData, match=f"says that {row.claim} is {other}, and data/results/ has it {row.verdict}"
    ):
        say(f"{{{row.claim}:{other}}}")
    with pytest.raises(BadData, match="is nothing"):
        say(f"{{{row.claim}}}")


def test_a_claim_without_a_row_is_refused(say):
    with pytest.raises(BadData, match="names TRAJ-99, which has no primary row"):
        say("{TRAJ-99:reproduced}")


def test_a_source_without_sentences_has_no_answer(say, tmp_path):
    say("")
    (tmp_path / f"{SOURCE}.toml").unlink()
    assert answers.answer(registry.source(SOURCE)) is None


@pytest.mark.parametrize("path", sorted(paths.ANSWERS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_answer_rests_on_rows_with_words_and_has_a_figure(path):
    source = registry.source(path.stem)
    said = answers.answer(source)
    assert said.text.count("[") >= 3, "an answer says how sure it is"
    assert said.alt and hasattr(plots, f"draw_{source.name}")
    for name in inspect.signature(getattr(plots, f"draw_{source.name}")).parameters:
        assert name in source


def test_a_figure_is_stale_when_its_table_or_its_code_changes(tmp_path, monkeypatch):
    source = registry.source("sandler2023trajectories")
    assert answer_figures.is_current(source)
    monkeypatch.setattr(answer_figures, "path_of", lambda source: tmp_path / "other.png")
    assert not answer_figures.is_current(source)
    monkeypatch.setattr(answer_figures.runs, "checksum_of", lambda path: "another")
    monkeypatch.setattr(
        answer_figures, "path_of", lambda source: paths.ROOT / "docs/figures" / f"{source.name}.png"
    )
    assert not answer_figures.is_current(source)


def test_side_trips_are_drawn_as_gains_over_the_iterate():
    """Losses 3 (raw), 1 (average), 2 (side-trip), 4 (control) on every seed: gains 2, 1 and -1."""
    losses = {"raw": 3.0, "average": 1.0, "side-trip": 2.0, "constant-rate": 4.0}
    rows = [
        {"dataset": "digits", "seed": seed, "branch": 0, "start": 5, "k": k, "arm": arm, "train_loss": loss + seed / 10,
         "kernel": kernel if arm in ("average", "side-trip") else ""}
        for seed in range(3) for k in (10, 100) for arm, loss in losses.items() for kernel in plots.KERNEL_TITLES
    ]  # fmt: skip
    axes = plots.draw_sandler2023trajectories(pd.DataFrame(rows).drop_duplicates())
    assert len(axes) == 3
    for ax in axes:
        drawn = {
            line.get_label(): {round(y, 6) for y in map(float, line.get_ydata())}
            for line in ax.lines
        }
        assert drawn["weights averaged"] == {2.0}
        assert drawn["rate reduced"] == {1.0}
        assert drawn["control: rate kept"] == {-1.0}


def test_what_a_figure_takes_as_judged_is_derived(tmp_path, monkeypatch):
    """`one_task` has a row a trial, and its judged table one a seed, arm, budget and rate: with `rate`."""
    filters, trials = answer_figures._tables(registry.source("across"))
    assert "rate" in trials and "rate" not in filters


def test_a_figure_shows_the_preset_of_its_answer(say, monkeypatch):
    say("")
    source = registry.source(SOURCE)
    drawn = lambda figure_5: None  # noqa: E731
    monkeypatch.setattr(plots, f"draw_{SOURCE}", drawn)
    asked = []
    monkeypatch.setattr(
        answer_figures.runs, "load_recorded", lambda _, preset: asked.append(preset)
    )
    list(answer_figures._tables(source))
    assert asked == ["gpu"]


@pytest.fixture
def judged() -> pd.DataFrame:
    """Tuned test losses that are 10 ** (0.1 seed) times 1 (SGD), 0.5 (average), 2 (Lookahead, 4 per second, at the edge)."""
    over = {"SGD": (1, 1), "average, swa": (0.5, 0.5), "Lookahead": (2, 4)}
    return pd.DataFrame(
        {"dataset": "digits", "axis": axis, "arm": arm, "seed": seed, "rate": rate,
         "test_loss": ratios[axis != "gradients"] * 10 ** (seed / 10) * (1 if rate == "tuned" or arm == "SGD" else 7),
         "at_edge": int(seed == 2 and arm == "Lookahead" and axis != "gradients")}
        for axis in ("gradients", "forward passes", "modelled seconds")
        for arm, ratios in over.items() for seed in range(5) for rate in ("tuned", "tuned higher")
    )  # fmt: skip


def test_methods_are_drawn_as_ratios_to_sgd_of_the_same_seed(judged):
    """Seeds that differ tenfold cancel: every interval is a point, and the arrow stands at the edge alone."""
    filters = pd.DataFrame(
        {"what": "response", "arm": arm, "at": at, "value": at + place}
        for place, arm in enumerate(plots.PASSED_BY) for at in (1.0, 0.0)
    )  # fmt: skip
    lines, ends = plots.draw_across(filters, judged)
    assert [line.get_ydata().tolist() for line in lines.lines] == [
        [place, place + 1] for place in range(len(plots.PASSED_BY))
    ]
    assert [label.get_text() for label in ends.get_yticklabels()] == ["average, swa", "Lookahead"]
    marks = [
        line for line in ends.lines if line.get_marker() in ("o", "<") and len(line.get_xdata())
    ]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx([0.5, 2, 0.5, 4])
    assert [line.get_marker() for line in marks] == ["o", "o", "o", "<"]
    assert [round(float(line.get_ydata()[0])) for line in marks] == [0, 1, 0, 1]
    bars = [line.get_xdata() for line in ends.lines if line.get_marker() == "None"]
    assert [each.tolist() for each in bars] == [pytest.approx([x, x]) for x in (0.5, 2, 0.5, 4)]


def test_an_interval_is_that_of_the_logarithms(judged):
    """Ratios 1/2, 1, 2, 1, 1 of one arm: log10 has mean 0, and Student's interval is +- t s / sqrt(5)."""
    judged = judged[(judged.arm != "Lookahead") & (judged.rate == "tuned")].copy()
    of_average = judged.arm == "average, swa"
    judged.loc[of_average, "test_loss"] *= judged.seed[of_average].map(
        {0: 1, 1: 2, 2: 4, 3: 2, 4: 2}
    )
    ax = plots.grid(1, 1, (3, 3))[1][0, 0]
    plots._draw_ends(ax, judged)
    half = 2.776445 * (2 * np.log10(2) ** 2 / 4) ** 0.5 / 5**0.5
    assert ax.lines[0].get_xdata() == pytest.approx([10**-half, 10**half], rel=1e-5)
    assert ax.lines[1].get_xdata() == pytest.approx([1.0])


def test_names_of_lines_that_end_together_do_not_overlap():
    moved = move_apart([0.1, 0.1, 0.11, 0.5], 0.05)
    assert moved[3] == 0.5
    assert all(above - below >= 0.05 - 1e-6 for below, above in zip(moved, moved[1:], strict=False))
    assert moved == sorted(moved)
