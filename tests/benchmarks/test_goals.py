"""A goal is a key in one table; the file of its topic measures it by that key."""

import ast
import re
from pathlib import Path

import pytest

from benchmarks import goals, harness
from replicate import paths

FOLDER = paths.ROOT / "benchmarks"
KEY = re.compile(r"[CG]\d+( [\w ]+)?")
TOPICS = [*harness.list_topics(), *harness.list_gpu_topics()]


def file_of(topic: str) -> Path:
    plain = FOLDER / f"{topic}.py"
    return plain if plain.exists() else FOLDER / "gpu" / f"{topic}.py"


def keys_in(path: Path) -> set[str]:
    """Strings of a file that look like the key of a goal, but for what `Evidence` says in words."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    said = {id(each) for node in nodes if isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "Evidence" for each in node.args}  # fmt: skip
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and id(n) not in said}
    return {text for text in texts if isinstance(text, str) and KEY.fullmatch(text)}


def test_thirteen_goals_of_a_cpu_and_twelve_of_a_gpu_each_with_a_bound():
    numbers = [f"C{number}" for number in range(1, 14)] + [f"G{number}" for number in range(1, 13)]
    assert {goal.number for goal in goals.GOALS.values()} == set(numbers)
    for key, goal in goals.GOALS.items():
        assert key.split()[0] == goal.number and goal.bounds and goal.what


def test_each_goal_is_measured_by_its_topic_or_says_where_it_is_to_be_had():
    for key, goal in goals.GOALS.items():
        if goal.topic:
            assert key in keys_in(file_of(goal.topic)), f"{goal.topic}.py does not measure {key}"
        else:
            assert goal.note, f"{key} has neither a topic nor a note"


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_names_its_goals_by_keys_that_are_there(topic):
    assert keys_in(file_of(topic)) == {
        key for key, goal in goals.GOALS.items() if goal.topic == topic
    }


def test_a_range_is_said_in_words():
    assert goals.GOALS["C1"].bounds == "at least 2.3" and goals.GOALS["G12"].bounds == "at most 90"
    assert goals.Goal("C1", "x", least=1, most=2).bounds == "at least 1, at most 2"
    assert goals.Goal("C1", "x", "y").label == "x, against y"


def test_the_goals_of_a_topic_are_listed_with_what_came_out():
    text = goals.list_goals(["lookahead"])
    assert "goal C1: Lookahead, 5 steps" in text and "(missed: see below)" in text
    assert "goal C2" not in text


def test_the_page_on_speed_says_every_goal_of_its_table_as_the_table_of_goals_does():
    """A row: what | against | times faster | goal, where an empty cell is the one above it."""
    text = (paths.ROOT / "docs" / "speed.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    stated = {(goal.what, goal.against): goal for goal in goals.GOALS.values()}
    what = ""
    seen = set()
    for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines):
        what = cells[0] or what
        goal = stated[what, cells[1]]
        said = f"{goal.least:g}, {goal.note}" if goal.note else f"{goal.least:g}"
        assert cells[3] == said, f"{what}: docs/speed.md says {cells[3]!r}, the goals {said!r}"
        seen.add(goal.number)
    assert {"C1", "C2", "C3", "C4", "C9", "C10"} <= seen
