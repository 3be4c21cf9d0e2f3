"""Jobs become ratios by the one clock and are held against goals; results must be equal first."""

import numpy as np
import pytest

from benchmarks import harness
from replicate import numerics, paths
from replicate.errors import BadData, BadParameter
from replicate.runs import machine


@pytest.fixture
def work(monkeypatch):
    """A job of so many seconds of a clock that no machine disturbs."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(numerics.time, "process_time", lambda: Clock.now)

    def job(seconds):
        def spend():
            Clock.now += seconds

        return spend

    return job


def comparison(work, ours: float, **changes) -> harness.Comparison:
    """A plain loop of 10 seconds, a third job of 5, and ours."""
    jobs = {"plain": work(10.0), "other": work(5.0), "ours": work(ours)}
    declared = {
        "title": "cycles",
        "jobs": jobs,
        "results": lambda: {name: np.ones(3) for name in jobs},
        "tolerance": (1e-6, 0.0),
        "goals": {"C1": ("plain", "ours")},
        "rounds": 3,
    }
    return harness.Comparison(**(declared | changes))


@pytest.mark.parametrize(
    ("ours", "ratio", "met"), [(2.0, 5.0, "yes"), (5.0, 2.0, "no"), (20.0, 0.5, "no")]
)
def test_a_slow_ours_turns_the_ratio_below_the_goal(work, ours, ratio, met):
    frame = harness.make_frame(harness.compare(comparison(work, ours)).rows)
    assert frame.goal.tolist() == ["C1", ""] and frame.at_least[0] == 2.3
    assert frame.what.tolist() == ["plain over ours", "other over ours"]
    assert frame.value.tolist() == pytest.approx([ratio, 5.0 / ours])
    assert frame.met.tolist() == [met, ""] and frame.rounds.tolist() == [3, 3]


def test_results_that_differ_are_named_and_nothing_is_timed(work):
    timed = []
    jobs = {"plain": lambda: timed.append(1), "ours": lambda: timed.append(1)}
    wrong = {"plain": np.ones(3), "ours": np.array([1.0, 1.0, 1.1])}
    broken = comparison(work, 1.0, jobs=jobs, results=lambda: wrong)
    with pytest.raises(BadData, match="cycles: results of 'plain' and 'ours' differ"):
        harness.compare(broken)
    assert timed == []
    for other in (np.ones(2), np.array([1.0, np.nan, 1.0])):
        with pytest.raises(BadData):
            harness.check_equal("x", {"plain": other, "ours": np.ones(3)}, 1e-6, 0.0)


def test_nothing_is_held_against_goals_at_another_size(work):
    small = comparison(work, 20.0, is_stated=False)
    frame = harness.make_frame(harness.compare(small).rows)
    assert frame.goal.tolist() == ["", ""] and frame.met.tolist() == ["", ""]
    assert frame.what[0] == "plain over ours"


def test_a_goal_is_met_only_if_every_round_meets_it():
    rows = [harness.Row("G1", "x", "ratio", values) for values in ([5, 6, 4], [3, 5, 6], [1, 2, 3])]
    rows += [harness.Row("G5", "y", "fraction", [0.005]), harness.Row("", "copy", "bytes/s", [1])]
    frame = harness.make_frame(rows)
    assert frame.met.tolist() == ["yes", "in part", "no", "yes", ""]
    assert frame.value.tolist()[:3] == [5, 5, 2]


def test_a_goal_that_is_none_is_refused():
    with pytest.raises(BadParameter, match="unknown goal 'C33'"):
        harness.make_frame([harness.Row("C33", "x", "ratio", [1.0])])


def test_the_printed_line_names_the_goal_and_says_whether_it_is_met():
    rows = [harness.Row("C1", "plain over ours", "ratio", [2.0, 2.5, 3.0])]
    title, line = harness.format_table("cycles", harness.make_frame(rows)).splitlines()
    assert title == "cycles" and line.split() == (
        "plain over ours 2.5 ratio rounds 2 to 3 goal C1: at least 2.3, met: in part".split()
    )


def test_a_topic_is_said_and_written_and_a_wrong_one_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    monkeypatch.setattr(machine, "commit", lambda: ("abc", False))
    monkeypatch.setattr(harness.runs, "commit", lambda: ("abc", False))
    monkeypatch.setattr(harness, "_measure", lambda name: iter(["the table"]))
    said = []
    harness.run_topics(["lookahead"], said.append)
    (path,) = (tmp_path / "bench").iterdir()
    assert path.name == "lookahead.txt" and path.read_text() == "\n".join([*said, ""])
    assert "commit abc" in said[0] and said[1] == "the table" and "goal C1: " in said[2]
    with pytest.raises(BadParameter, match="unknown topic 'lookahed'; did you mean 'lookahead'"):
        harness.run_topics(["lookahed"], said.append)


def test_without_a_gpu_its_topics_are_left_out_in_one_line(monkeypatch):
    monkeypatch.setattr(harness.runs, "device", lambda: "cpu")
    measured = []
    said = []
    monkeypatch.setattr(harness, "run_topic", lambda name, device, say: measured.append(name))
    harness.run_topics([], said.append)
    assert measured == harness.list_topics()
    before, after = said
    assert before.startswith("going on without ceilings, host, scripts")
    assert after.startswith("goal G10: ") and "provenance" in after
