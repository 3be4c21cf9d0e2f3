"""A change of data/results/ that is made whole or not at all.

All of it is written to a copy beside the folder, files by links, and judged there. Then each file that
differs is moved into place, which needs no room on the disk; where one cannot be, those before it are moved
back. A process that is killed between two moves leaves whole files, and the same command finishes.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replicate import paths
from replicate.errors import Busy

STAGE = ".recording"  # beside data/results/, on the same disk; git does not look at it


@contextmanager
def stage_results() -> Iterator[Path]:
    """Let paths.RESULTS be a copy within the block, which takes its place if the block ends well.

    Gives the path of the real folder. Raises Busy while another process records.
    """
    import filelock

    results, stage = paths.RESULTS, paths.RESULTS.parent / STAGE
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(paths.BUILD / "record.lock", timeout=0):
            try:
                shutil.rmtree(stage, ignore_errors=True)  # what a killed process left
                _copy(results, stage / "after")
                paths.RESULTS = stage / "after"
                yield results
                _publish(stage, results)
            finally:
                paths.RESULTS = results
                shutil.rmtree(stage, ignore_errors=True)
    except filelock.Timeout:
        raise Busy(
            "another process is recording; wait until it is done, and run the same command again"
        ) from None


def _copy(folder: Path, copy: Path) -> None:
    copy.mkdir(parents=True)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)


def _link(path: Path, target: Path) -> None:
    """The same file under another name, or its copy where the disk has no links. Nothing here
    writes into a file that is there: see `paths.write_atomic`.
    """
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


def _publish(stage: Path, results: Path) -> None:
    """Move every file of the copy that differs into its place, all of them or none."""
    moved: list[tuple[Path, Path]] = []
    made: list[Path] = []
    try:
        for path in sorted((stage / "after").rglob("*")):
            inner = path.relative_to(stage / "after")
            target, before = results / inner, stage / "before" / inner
            if path.is_dir():
                _make_folder(target, made)
            elif not (target.exists() and _is_equal(path, target)):
                before.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    _link(target, before)
                moved.append((target, before))
                os.replace(path, target)
    except BaseException:
        for target, before in reversed(moved):
            if before.exists():
                os.replace(before, target)
            else:
                target.unlink(missing_ok=True)
        for folder in reversed(made):
            folder.rmdir()
        raise


def _make_folder(folder: Path, made: list[Path]) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
        made.append(each)


def _is_equal(path: Path, other: Path) -> bool:
    return path.samefile(other) or path.read_bytes() == other.read_bytes()
