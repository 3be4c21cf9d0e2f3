"""A run is made once, goes on after whatever stopped it, and says what went wrong in the words of
its own failure.
"""

import multiprocessing
import os
import pickle
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
import pandas as pd
import pytest
import torch
from joblib.externals.loky import get_reusable_executor

from replicate import errors, paths, runs
from replicate.progress import deadline, ends_by, pieces
from replicate.runs import identity, machine
from replicate.runs.cache import TABLE, run_folder


@dataclass(frozen=True)
class Settings:
    """What the runs below are told; `dataset` is part of every source's settings."""

    dataset: str = "digits"
    lr: float = 0.1
    precision: str = "float32"


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.delenv("REPLICATE_DEADLINE", raising=False)
    return tmp_path


CALLS = []
TROUBLE = {}


def squares(settings: Settings) -> pd.DataFrame:
    """An experiment without a grid."""
    CALLS.append(settings)
    return pd.DataFrame({"x": [1.0, 2.0], "y": [settings.lr, 2 * settings.lr]})


def trained(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """A run of a grid; TROUBLE says at which seed what goes wrong."""
    CALLS.append(point)
    if point["seed"] in TROUBLE:
        raise TROUBLE[point["seed"]]
    (folder / "note").write_text(str(point["seed"]))
    inherited = [(p / "note").read_text() for p in parents]
    threads = torch.get_num_threads()
    return pd.DataFrame({"loss": [settings.lr * point["seed"]], "inherited": [",".join(inherited)], "threads": threads,
                         "elsewhere": multiprocessing.parent_process() is not None})  # fmt: skip


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    CALLS.clear()
    TROUBLE.clear()


GRID = [{"seed": s} for s in range(3)]


def test_the_second_time_an_experiment_is_read_from_disk():
    first, second = (runs.produce_or_load(squares, Settings()) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert len(CALLS) == 1


@pytest.mark.parametrize("change", ["settings", "code", "numerics"])
def test_other_settings_code_or_numerics_are_another_run(monkeypatch, change):
    first = run_folder(squares, Settings())
    if change == "code":
        monkeypatch.setattr("replicate.runs.cache.code_digest", lambda function, chosen=(): "other")
    if change == "numerics":
        monkeypatch.setattr(machine, "numerics", lambda settings, device: {"device": "another"})
    assert run_folder(squares, Settings(lr=0.2) if change == "settings" else Settings()) != first


def test_jobs_change_nothing_but_where_a_run_happens(monkeypatch, tmp_path):
    one = runs.each(trained, Settings(), GRID).table
    monkeypatch.setattr(paths, "BUILD", tmp_path / "two")
    monkeypatch.setenv("REPLICATE_JOBS", "2")
    two = runs.each(trained, Settings(), GRID).table
    pd.testing.assert_frame_equal(one.drop(columns="elsewhere"), two.drop(columns="elsewhere"))
    assert (one.elsewhere.any(), two.elsewhere.all()) == (False, True)
    assert set(one.threads) == set(two.threads) == {1}


def test_threads_and_denormals_are_put_back():
    threads = torch.get_num_threads()
    runs.each(trained, Settings(), GRID)
    assert torch.get_num_threads() == threads
    assert float(torch.tensor([1e-40]) * 1.0) > 0


def test_rows_carry_their_point_and_find_their_parents():
    main = runs.each(trained, Settings(), GRID)
    side = runs.each(trained, replace(Settings(), lr=0.2), [{"seed": s, "branch": b} for s in range(3) for b in (0, 1)],
                     after=main)  # fmt: skip
    assert side.table.inherited.tolist() == ["0", "0", "1", "1", "2", "2"]
    assert side.table[["seed", "branch"]].to_numpy().tolist() == [
        [s, b] for s in range(3) for b in (0, 1)
    ]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_that_failed_leaves_the_others_and_is_the_only_one_to_run_again(monkeypatch, jobs):
    monkeypatch.setenv("REPLICATE_JOBS", jobs)
    TROUBLE[2] = errors.BadData("x.bin is cut short")
    failing = trained if jobs == "1" else failing_at_two
    with pytest.raises(errors.BadData, match="^x.bin is cut short$"):
        runs.each(failing, Settings(), GRID)
    done = sorted(path.parent.name for path in paths.BUILD.rglob(TABLE))
    assert done == ["seed0", "seed1"]
    if jobs == "1":
        TROUBLE.clear()
        CALLS.clear()
        assert len(runs.each(trained, Settings(), GRID).table) == 3
        assert CALLS == [{"seed": 2}]


def wait_for_others(folder) -> None:
    while len(list(folder.parent.glob(f"*/{TABLE}"))) < 2:
        time.sleep(0.02)


def failing_at_two(settings, point, folder, parents, device) -> pd.DataFrame:
    """In another process, where TROUBLE is empty. The last run waits until the others are done."""
    if point["seed"] == 2:
        wait_for_others(folder)
        raise errors.BadData("x.bin is cut short")
    return pd.DataFrame({"loss": [0.0]})


def killed_at_two(settings, point, folder, parents, device) -> pd.DataFrame:
    """The process ends as when the system takes its memory; the others have been written by then."""
    if point["seed"] == 2:
        wait_for_others(folder)
        os.kill(os.getpid(), signal.SIGKILL)
    return pd.DataFrame({"loss": [0.0]})


def test_a_killed_worker_is_one_line_with_its_exit_code_and_finished_runs_are_kept(monkeypatch):
    monkeypatch.setenv("REPLICATE_JOBS", "2")
    with pytest.raises(
        errors.Killed, match="a worker process was killed .*; finished runs are kept: "
    ) as failure:
        runs.each(killed_at_two, Settings(), GRID)
    assert failure.value.exit_code == 137 and "\n" not in str(failure.value)
    assert sorted(path.parent.name for path in paths.BUILD.rglob(TABLE)) == ["seed0", "seed1"]
    assert len(runs.each(trained_alone, Settings(), GRID).table) == 3  # in new workers


def growing(settings, point, folder, parents, device) -> pd.DataFrame:
    """By 400 MB that stay, as libraries do; so long that loky looks at the memory of the process."""
    torch.kept_by_a_test = torch.ones(10**8) if settings.lr > 0.1 else None
    time.sleep(1.2)
    return pd.DataFrame({"pid": [os.getpid()]})


def test_a_worker_that_libraries_made_large_takes_the_next_runs_too(monkeypatch):
    monkeypatch.setenv("REPLICATE_JOBS", "2")
    get_reusable_executor().shutdown(wait=True)
    pids = set()
    for rate in (0.1, 0.2, 0.3, 0.1):
        pids |= set(runs.each(growing, Settings(lr=rate), GRID[:2]).table.pid)
    assert len(pids) <= 2


def diverging_at_one(settings, point, folder, parents, device) -> pd.DataFrame:
    if point["seed"] == 1:
        raise errors.Diverged("loss became nan at step 14", 14)
    return pd.DataFrame({"loss": [0.0]})


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_diverged_run_is_a_row_with_its_step_and_so_are_its_children(monkeypatch, jobs):
    monkeypatch.setenv("REPLICATE_JOBS", jobs)
    main = runs.each(diverging_at_one, Settings(), GRID)
    assert main.table.set_index("seed").diverged.fillna(-1).tolist() == [-1, 14, -1]
    side = runs.each(trained_alone, Settings(), GRID, after=main)
    assert side.table.set_index("seed").diverged.fillna(-1).tolist() == [-1, 14, -1]


def trained_alone(settings, point, folder, parents, device) -> pd.DataFrame:
    return pd.DataFrame({"loss": [1.0]})


def test_if_every_run_diverges_that_is_a_failure():
    TROUBLE.update({s: errors.Diverged("nan", 7 + s) for s in range(3)})
    with pytest.raises(errors.Diverged, match="every run diverged, the first at step 7") as found:
        runs.each(trained, Settings(), GRID)
    assert found.value.step == 7


@pytest.mark.parametrize(
    "kind", [errors.BadParameter, errors.BadData, errors.Missing, errors.DiskFull, errors.Busy]
)
def test_a_failure_keeps_its_class_and_its_line_between_processes(kind):
    back = pickle.loads(pickle.dumps(kind("one line")))
    assert (type(back), str(back), back.exit_code) == (kind, "one line", kind.exit_code)


def test_divergence_keeps_its_step_between_processes():
    back = pickle.loads(pickle.dumps(errors.Diverged("nan at step 3", 3)))
    assert (type(back), str(back), back.step) == (errors.Diverged, "nan at step 3", 3)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_past_the_deadline_no_run_is_started_and_a_later_call_goes_on(monkeypatch, jobs):
    monkeypatch.setenv("REPLICATE_JOBS", jobs)
    get_reusable_executor().shutdown()  # so that the workers are made under the deadline, and live on after it
    monkeypatch.setenv("REPLICATE_DEADLINE", str(time.time() - 1))
    with pytest.raises(errors.Busy, match="3 of 3 runs are left"):
        runs.each(trained, Settings(), GRID)
    assert CALLS == []
    monkeypatch.delenv("REPLICATE_DEADLINE")
    assert len(runs.each(trained, Settings(), GRID).table) == 3


def counting(settings, point, folder, parents, device) -> pd.DataFrame:
    """Three pieces, each of which is the last before a deadline."""
    rows = runs.kept_rows(folder)
    with ends_by(0.0):
        for piece in pieces(range(len(rows), 3), lambda: runs.keep_rows(folder, rows)):
            rows.append(
                {"piece": piece, "third": piece / 3, "name": f"p{piece}", "process": os.getpid()}
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_that_pauses_is_left_over_and_goes_on_with_the_rows_it_has(monkeypatch, jobs):
    monkeypatch.setenv("REPLICATE_JOBS", jobs)
    for _ in range(2):
        with pytest.raises(
            errors.Busy, match="2 of 2 runs are left; run the same command again to resume"
        ):
            runs.each(counting, Settings(), GRID[:2])
    found = runs.each(counting, Settings(), GRID[:2]).table
    assert found.piece.tolist() == [0, 1, 2] * 2 and found.seed.tolist() == [0] * 3 + [1] * 3
    assert (
        found.third.tolist() == [0, 1 / 3, 2 / 3] * 2
        and found.name.tolist() == ["p0", "p1", "p2"] * 2
    )


def test_before_a_deadline_at_which_a_run_had_to_stop_no_other_is_started(build):
    with ends_by(time.time() + 1000), pytest.raises(errors.Busy, match="3 of 3 runs are left"):
        runs.each(counting, Settings(), GRID)
    assert [path.parent.name for path in build.rglob("rows.parquet")] == ["seed0"]
    with ends_by(time.time() + 1000), pytest.raises(errors.Busy, match="3 of 3 runs are left"):
        runs.each(counting, Settings(), GRID)
    assert [len(runs.read_table(path)) for path in build.rglob("rows.parquet")] == [2]


def test_the_deadline_of_a_call_is_what_its_runs_are_told(monkeypatch):
    monkeypatch.setenv("REPLICATE_JOBS", "2")
    moment = time.time() + 1000
    with ends_by(moment):
        assert runs.each(told, Settings(), GRID).table.until.tolist() == [moment] * 3
    assert runs.each(told, Settings(lr=0.2), GRID).table.until.tolist() == [float("inf")] * 3


def told(settings, point, folder, parents, device) -> pd.DataFrame:
    return pd.DataFrame({"until": [deadline()]})


def test_a_run_that_another_process_is_making_is_left_alone():
    folder = run_folder(trained, Settings()) / "seed0"
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / "lock"), pytest.raises(errors.Busy, match="another process"):
        runs.each(trained, Settings(), GRID[:1])
    assert CALLS == []


def test_a_table_that_was_cut_is_named():
    runs.produce_or_load(squares, Settings())
    path = run_folder(squares, Settings()) / TABLE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(errors.BadData, match="table.parquet is damaged"):
        runs.produce_or_load(squares, Settings())


def test_no_flipped_bit_is_ever_believed(tmp_path):
    table, about, path = (
        pd.DataFrame({"a": [0.1, 0.2], "b": ["x", "y"]}),
        {"commit": "abc"},
        tmp_path / "t.parquet",
    )
    runs.write_table(path, table, about)
    content, refused = path.read_bytes(), 0
    for place in range(0, len(content), 3):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]
        )
        try:
            assert runs.read_table(path).equals(table) and runs.provenance_of(path) == about
        except errors.BadData:
            refused += 1
    assert refused > len(content) / 6


def absent(settings: Settings) -> pd.DataFrame:
    if settings.dataset == "cifar10":
        raise errors.Missing("cifar10 is not at hand")
    return squares(settings)


def test_a_data_set_that_is_missing_is_left_out_and_said_to_be(capsys):
    table = runs.over(absent, {"digits": Settings(), "cifar10": Settings(dataset="cifar10")})
    assert set(table.dataset) == {"digits"}
    assert capsys.readouterr().err == "going on without cifar10: cifar10 is not at hand\n"


def test_provenance_says_what_made_the_table(monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: ("abc123", True))
    runs.produce_or_load(squares, Settings())
    about = runs.provenance_of(run_folder(squares, Settings()) / TABLE)
    assert about["settings"] == {"dataset": "digits", "lr": 0.1, "precision": "float32"}
    assert (about["commit"], about["dirty"]) == ("abc123", True)
    assert (
        about["versions"]["torch"] == torch.__version__
        and about["numerics"]["denormals"] == "flushed"
    )
    assert runs.load_cached(squares, {"digits": Settings()}).commit.tolist() == ["abc123+"] * 2


def test_deviations_name_field_and_both_values():
    table = runs.deviations(Settings(lr=0.5), Settings())
    assert table.to_dict("records") == [{"field": "lr", "paper": 0.1, "here": 0.5}]


# Seeds, parents, and the code that ran.


@dataclass(frozen=True)
class Seeded(Settings):
    """Settings with seeds, as every source has them."""

    seeds: tuple = (0, 1)


def seeds_of(settings: Seeded) -> list:
    return [{"seed": seed} for seed in settings.seeds]


def test_more_seeds_run_only_the_new_ones():
    few, many = Seeded(), Seeded(seeds=(0, 1, 2, 3))
    runs.each(trained, few, seeds_of(few))
    before = len(CALLS)
    table = runs.each(trained, many, seeds_of(many)).table
    assert before == 2 and [point["seed"] for point in CALLS] == [0, 1, 2, 3]
    assert sorted(table.seed) == [0, 1, 2, 3]


def test_an_experiment_of_more_seeds_is_another_table():
    assert run_folder(squares, Seeded()) != run_folder(squares, Seeded(seeds=(0, 1, 2)))
    assert run_folder(squares, Seeded(), seeds=False) == run_folder(
        squares, Seeded(seeds=(5,)), seeds=False
    )


def test_any_other_setting_is_in_the_key_of_a_run():
    assert run_folder(squares, Seeded(), seeds=False) != run_folder(
        squares, Seeded(lr=0.2), seeds=False
    )


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_parent_whose_file_is_lost_is_made_again(damage, capsys):
    main = runs.each(trained, Settings(), GRID)
    note = main.folders[("seed", 1),] / "note"
    note.unlink() if damage == "gone" else note.write_text("")
    CALLS.clear()
    children = runs.each(reading_its_parent, Settings(), GRID, after=main)
    assert CALLS == [{"seed": 1}] and "is made again" in capsys.readouterr().err
    assert children.table.sort_values("seed").inherited.tolist() == ["0", "1", "2"]


def reading_its_parent(settings, point, folder, parents, device) -> pd.DataFrame:
    """A child that reads what its parent left."""
    return pd.DataFrame(
        {"inherited": [",".join((parent / "note").read_text() for parent in parents)]}
    )


def test_a_run_whose_code_was_edited_stores_nothing(tmp_path, monkeypatch):
    package = tmp_path / "src" / "replicate"
    package.mkdir(parents=True)
    leaf = package / "leaf.py"
    leaf.write_text("x = 1\n")
    monkeypatch.setattr(identity, "PACKAGE", package)
    monkeypatch.setattr(identity, "IMPORTED_STAMPS", identity._stamps(package))
    monkeypatch.setattr(identity, "IMPORTED", identity._hashes(package))
    runs.each(trained, Settings(), GRID[:1])
    leaf.write_text("x = 2222\n")
    with pytest.raises(
        errors.Busy, match="leaf.py has changed since this run began; nothing of it is stored"
    ):
        runs.each(trained, Settings(), GRID)
    assert len(list(paths.BUILD.rglob(TABLE))) == 1
    with pytest.raises(errors.Busy):
        runs.produce_or_load(squares, Settings())
    leaf.write_text("x = 1\n")
    runs.each(trained, Settings(), GRID)


def test_a_file_that_was_only_touched_stores_as_before(monkeypatch):
    stamps = {path: (0, 0) for path in identity.IMPORTED}
    monkeypatch.setattr(identity, "IMPORTED_STAMPS", stamps)
    assert len(runs.produce_or_load(squares, Settings())) == 2


def test_a_worker_with_other_code_stores_nothing():
    with pytest.raises(errors.Busy, match="between this process and its workers"):
        identity.check_unchanged("another code")


@dataclass(frozen=True)
class Choosing(Settings):
    """Settings whose data set is found by folder."""

    checksum: str = "abc"

    def found_by_folder(self) -> dict:
        return {"replicate.streams": self.checksum}


def test_what_a_name_chooses_by_folder_is_in_the_key():
    plain, chosen = run_folder(squares, Settings()), run_folder(squares, Choosing())
    assert chosen not in (plain, run_folder(squares, Choosing(checksum="def")))
