"""Which mistakes the tests see: `python tests/mutations/run.py` makes them one at a time in a copy of the
package, and runs the test files that name the changed module until one fails.

A mistake that no test minds is a survivor; survivors.toml says of each why, results.csv which test
minded the named ones. mutmut and cosmic-ray would do the same: one runs the whole suite first to
learn which tests reach a line, and rewrites modules that tests here read; the other starts an
interpreter for every mistake.
"""

import argparse
import csv
import os
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from changes import Change, choose  # noqa: E402
from copies import ROOT, Copy, Outcome, Trial, try_each  # noqa: E402

SOURCES = "src/replicate/sources"
CONTRASTS = "src/replicate/claims/contrasts.py"
# Numbers that are chosen and texts that are copied: a test that held them would only repeat them.
CHOSEN = {"settings.py", "presets.py", "_text_settings.py", "_text_presets.py", "listing.py", "_printed.py",
          "__init__.py", "protocol.py"}  # fmt: skip
COLUMNS = ("file", "kind", "before", "after", "word", "test", "seconds")
EVERY = 10_000  # more than any file has
MOST_SECONDS = 60.0  # of the processor for tests of a module, the fastest files first
MOST_OF_A_FILE = 600  # seconds
SLOWER, GRACE = 3, 10  # times what tests take without a mistake, and seconds: then they hang


@dataclass(frozen=True)
class Mistake:
    """A change of one file. kind: "named", or "drawn" by a rule; tests: files that may see it."""

    file: str
    kind: str
    change: Change
    tests: tuple[str, ...]


def list_files() -> list[str]:
    """The modules in which mistakes are drawn: contrasts, and what experiments compute with."""
    modules = (path for path in (ROOT / SOURCES).rglob("*.py") if path.name not in CHOSEN)
    return [CONTRASTS, *sorted(str(path.relative_to(ROOT)) for path in modules)]


def find_tests(file: str) -> tuple[str, ...]:
    """The test files of a module's source that name it, or else those that name what imports it."""
    if file == CONTRASTS:
        return ("tests/claims/test_contrasts.py", "tests/claims/test_contrast_edges.py")
    path, names = ROOT / file, {Path(file).stem}
    of_source = path.parent.name if path.parent.name != "sources" else ""
    tests = sorted((ROOT / "tests/sources").glob(f"test_{of_source}*.py"))
    for _ in range(3):
        named = [test for test in tests if _has_name(test, names)]
        if named:
            break
        names |= {each.stem for each in path.parent.rglob("*.py") if _has_name(each, names)}
    return tuple(str(test.relative_to(ROOT)) for test in named)


def _has_name(path: Path, stems: set[str]) -> bool:
    pattern = rf"\b({'|'.join(map(re.escape, sorted(stems)))})\b"
    return path.name not in CHOSEN and re.search(pattern, path.read_text()) is not None


def draw_mistakes(files: list[str], most: int) -> Iterator[Mistake]:
    """Of every file at most so many, the first of each before the second of any; last those of the
    contrasts, all of them.
    """
    drawn = []
    for file in files:
        content, tests = (ROOT / file).read_bytes(), find_tests(file)
        chosen = choose(content, EVERY if file == CONTRASTS else most)
        drawn += [
            (file == CONTRASTS, rank, Mistake(file, "drawn", change, tests))
            for rank, change in enumerate(chosen)
            if tests
        ]
    yield from (mistake for *_, mistake in sorted(drawn, key=lambda each: each[:2]))


def read_named() -> Iterator[Mistake]:
    """The mistakes of named.toml. Raises ValueError where a text does not stand in its file once."""
    for entry in tomllib.loads((HERE / "named.toml").read_text())["mistake"]:
        content = (ROOT / entry["file"]).read_bytes()
        old, new = entry["before"].encode(), entry["after"].encode()
        if content.count(old) != 1:
            raise ValueError(
                f"{entry['name']}: {entry['before']!r} stands {content.count(old)} times in "
                f"{entry['file']}; bring named.toml in line with it"
            )
        start = content.index(old)
        change = Change(start, start + len(old), new, entry["name"], entry["after"])
        yield Mistake(entry["file"], "named", change, tuple(entry["tests"]))


def try_mistakes(mistakes: list[Mistake], jobs: int, minutes: float) -> Iterator[dict]:
    """A row for each mistake, as long as there is time; `minutes` of the clock.

    Raises ValueError where a test fails without any mistake.
    """
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        copies = [Copy(Path(folder) / str(number)) for number in range(jobs)]
        seconds = _time_tests({test for each in mistakes for test in each.tests}, copies)
        trials = {}
        for each in mistakes:
            tests = _limit(each.tests, seconds)
            limit = int(SLOWER * sum(seconds[test] for test in tests)) + GRACE
            trials[Trial(tests, limit, each.file, each.change)] = each
        in_time = (trial for trial in trials if time.monotonic() < until)
        for trial, outcome, _ in try_each(in_time, copies):
            yield _describe(trials[trial], outcome)


def _time_tests(tests: set[str], copies: list[Copy]) -> dict[str, float]:
    seconds = {}
    for trial, outcome, copy in try_each(
        (Trial((test,), MOST_OF_A_FILE) for test in sorted(tests)), copies
    ):
        if outcome.word != "survived":
            raise ValueError(f"{outcome.test} fails without any mistake\n{copy.tail()}")
        seconds[trial.tests[0]] = outcome.seconds
    return seconds


def _limit(tests: tuple[str, ...], seconds: dict[str, float]) -> tuple[str, ...]:
    """The fastest of the files that take no longer than MOST_SECONDS, at least one."""
    ordered, spent = sorted(tests, key=seconds.get), 0.0
    chosen = []
    for test in ordered:
        spent += seconds[test]
        if not chosen or spent <= MOST_SECONDS:
            chosen.append(test)
    return tuple(chosen)


def _describe(mistake: Mistake, outcome: Outcome) -> dict:
    change = mistake.change
    values = (mistake.file, mistake.kind, change.before, change.after, outcome.word, outcome.test,
              outcome.seconds)  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    """Print survivors as they are found, and write a row for every mistake."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="*", help="modules; all of them if not named")
    parser.add_argument("--each", type=int, default=4, help="mistakes drawn in a module, at most")
    parser.add_argument("--named", action="store_true", help="those of named.toml alone")
    parser.add_argument("--drawn", action="store_true", help="those that a rule draws alone")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--minutes", type=float, default=35.0)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutations.csv")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "REPLICATE_JOBS": "1", "TQDM_DISABLE": "1"}
    mistakes = []
    if not given.drawn:
        mistakes += [m for m in read_named() if not given.files or m.file in given.files]
    if not given.named:
        mistakes += draw_mistakes(given.files or list_files(), given.each)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    counts = {"killed": 0, "survived": 0}
    with given.out.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in try_mistakes(mistakes, given.jobs, given.minutes):
            table.writerow(row)
            file.flush()
            counts[row["word"]] += 1
            if row["word"] == "survived":
                print(f"{row['file']}: {row['before']}  ->  {row['after']}", flush=True)
    print(f"{counts['killed']} killed, {counts['survived']} survived of {len(mistakes)}")


if __name__ == "__main__":
    main()
