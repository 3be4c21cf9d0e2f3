"""The commits that CONTRIBUTING.md names are there, and each changes the files that its row says."""

import fnmatch
import re
import subprocess

import pytest

from replicate import paths

COMMIT = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b")
CHANGED = {  # what the first commit of a row changes, and adds where the row is about a new file
    "a claim on": ["data/claims/*.toml"],
    "a claim with": ["data/claims/*.toml", "src/replicate/sources/*/*.py", "notebooks/*.ipynb"],
    "an optimizer": ["src/replicate/optim/*.py", "tests/optim/*.py"],
    "a data set": ["src/replicate/datasets/*.py"],
    "a source": ["data/claims/*.toml", "src/replicate/sources/*/settings.py", "src/replicate/sources/*/presets.py", "notebooks/*.ipynb"],
}  # fmt: skip
TEXT = (paths.ROOT / "CONTRIBUTING.md").read_text()


def git(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True, timeout=60)  # fmt: skip


def commits_of(begin: str) -> list[str]:
    """The commits in the last column of the row that begins so."""
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| {begin} ")]
    return COMMIT.findall(row.split("|")[-2])


needs_history = pytest.mark.skipif(
    git("rev-parse", "--is-shallow-repository").stdout.strip() != "false",
    reason="no whole history of git here",
)


def test_every_addition_names_a_commit():
    table = [line for line in TEXT.splitlines() if line.startswith("| a")]
    assert len(table) == 1 + len(CHANGED)  # and its head
    assert all(commits_of(begin) for begin in CHANGED)


@needs_history
@pytest.mark.parametrize("begin", CHANGED)
def test_its_commits_are_in_the_history_and_the_first_shows_it(begin):
    for commit in commits_of(begin):
        assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0, commit
    changed = git("show", "--format=", "--name-only", commits_of(begin)[0]).stdout.split()
    assert [want for want in CHANGED[begin] if not fnmatch.filter(changed, want)] == []


def test_a_word_is_no_commit():
    assert COMMIT.findall("01619ad, a row; facade, defaced 12345") == ["01619ad"]
