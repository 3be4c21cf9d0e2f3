"""Where nobody looks at a terminal, a line at once and one every 30 seconds say what a command is at."""

import subprocess
import sys
import threading

import pytest

from replicate import progress
from replicate.app import cli, notebooks, registry

NAME = "sandler2023trajectories"


class Clock:
    """A clock that a wait moves on, and that has the block's work done before it ends."""

    def __init__(self, waits: int):
        self.now, self.left = 0.0, waits
        self.asked, self.resumed = threading.Semaphore(0), threading.Semaphore(0)

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        """Let the block work until its next `pass_on`."""
        self.asked.release()
        self.resumed.acquire(timeout=10)
        self.now += seconds
        self.left -= 1
        return self.left < 0

    def pass_on(self) -> None:
        """In the block: let so many seconds pass, and what is said then be said."""
        self.asked.acquire(timeout=10)
        self.resumed.release()
        self.asked.acquire(timeout=10)
        self.asked.release()


@pytest.fixture
def heard(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # where a bar is a widget
    return []


def tell(monkeypatch, heard: list, waits: int) -> tuple:
    clock = Clock(waits)
    monkeypatch.setattr(progress, "time", clock)
    return clock, progress.tell_now_and_then("run x", heard.append, clock.wait)


def test_a_line_is_said_at_once_and_one_every_half_minute(heard, monkeypatch):
    clock, block = tell(monkeypatch, heard, 3)
    with block:
        assert heard == ["run x: begun; a line every 30 s"]
        clock.pass_on()
        with progress.task("figure_5"):
            clock.pass_on()
            for _ in progress.progress(range(8), "digits"):
                if _ == 3:
                    clock.pass_on()
        clock.resumed.release()
    assert heard[1:] == [
        "run x: 0:30, at its end",
        "run x: 1:00, at figure_5",
        "run x: 1:30, at figure_5, digits 3 of 8",
    ]


def test_what_has_no_length_is_named_and_counted_where_it_is_said(heard, monkeypatch):
    clock, block = tell(monkeypatch, heard, 2)
    with block:
        for piece in progress.progress(iter("ab"), "letters"):
            if piece == "b":
                clock.pass_on()
        for piece in progress.progress(iter("ab"), "letters", total=2):
            if piece == "b":
                clock.pass_on()
        clock.resumed.release()
    assert heard[1:] == ["run x: 0:30, at letters", "run x: 1:00, at letters 1 of 2"]


def test_a_loop_that_is_left_is_not_spoken_of(heard, monkeypatch):
    clock, block = tell(monkeypatch, heard, 1)
    with block:
        with pytest.raises(ZeroDivisionError):
            for _ in progress.progress(range(3), "left"):
                raise ZeroDivisionError
        clock.pass_on()
        clock.resumed.release()
    assert heard[1:] == ["run x: 0:30, at its end"]


def test_nothing_is_said_after_the_end_and_none_waits_for_it(heard):
    with pytest.raises(KeyError), progress.tell_now_and_then("run x", heard.append):
        raise KeyError
    assert heard == ["run x: begun; a line every 30 s"]
    assert "lines of progress" not in [thread.name for thread in threading.enumerate()]
    assert progress.progress([1], "later") == [1]


def test_one_command_within_another_says_nothing_of_its_own(heard):
    with progress.tell_now_and_then("outer", heard.append):
        with progress.tell_now_and_then("inner", heard.append):
            pass
        assert list(progress.progress([1, 2], "still counted")) == [1, 2]
    assert len(heard) == 1


@pytest.mark.parametrize("why", ["a terminal", "TQDM_DISABLE"])
def test_nothing_is_said_where_there_are_bars_or_nobody_listens(heard, monkeypatch, why):
    if why == "a terminal":
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    else:
        monkeypatch.setenv("TQDM_DISABLE", "1")
    with progress.tell_now_and_then("run x", heard.append):
        pass
    assert heard == []


def test_a_download_s_bar_is_none_without_a_terminal(heard):
    with progress.tell_now_and_then("run x", heard.append):
        assert not progress.progress((), "fetching", total=10)


def test_a_terminal_has_a_bar(heard, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.tell_now_and_then("run x"):
        bar = progress.progress(range(3), "a bar")
    assert type(bar).__module__.startswith("tqdm") and bar.total == 3
    bar.close()


def called(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["replicate", *words])
    return cli.main()


def spoken(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.fixture
def at_work(monkeypatch, heard):
    """What a command is said to be at whenever something that takes long is called."""
    seen = []

    def look(value):
        def work(*_, **__):
            seen.append([str(task) for task in progress._tasks])
            return value

        return work

    monkeypatch.setattr("replicate.runs.over", look([1, 2]))
    monkeypatch.setattr(notebooks, "execute", lambda name, *_: cli.Path(f"{name}.ipynb"))
    return seen


def test_run_begins_with_a_line_and_names_the_experiment(at_work, monkeypatch, capsys):
    assert called(monkeypatch, "run", NAME, "table_1", "section_4") == 0
    assert spoken(capsys)[0] == f"run {NAME}: begun; a line every 30 s"
    assert at_work == [[f"{NAME} table_1"], [f"{NAME} section_4"]]


def test_replicate_begins_with_a_line_and_ends_with_what_was_decided(at_work, monkeypatch, capsys):
    assert called(monkeypatch, "replicate", "--preset", "smoke", "--only", NAME) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == "replicate: begun; a line every 30 s"
    assert err.count("begun") == 1 and f"{NAME}: {NAME}.ipynb" in err
    assert set(registry.source(NAME)) == {names[0].split()[1] for names in at_work}
    *_, said, done = out.splitlines()
    assert said.startswith("preset smoke decided ") and " it could not test: " in said
    assert done.startswith("done in ")


def test_report_begins_with_a_line(monkeypatch, capsys, heard, tmp_path):
    monkeypatch.setattr("replicate.app.site.build", lambda say: tmp_path / "index.html")
    assert called(monkeypatch, "report") == 0
    assert spoken(capsys) == ["report: begun; a line every 30 s"]


def test_a_refusal_is_one_line_without_a_beginning(monkeypatch, capsys, heard):
    assert called(monkeypatch, "run", NAME, "--set", "lr=fast") == 64
    assert len(spoken(capsys)) == 1


def test_the_first_line_comes_before_anything_large_is_imported(heard, tmp_path):
    """Torch, jax and pandas take seconds: a reader who sees nothing for so long thinks it hangs."""
    script = (
        "import sys\n"
        "from replicate import progress\n"
        "from replicate.app import cli\n"
        "def say(line): print(line, sorted({'torch', 'jax', 'scipy', 'sphinx'} & set(sys.modules)))\n"
        "progress._print_line = say\n"
        "sys.argv = ['replicate', 'report']\n"
        "sys.modules['replicate.app.site'] = None\n"  # an import of it fails
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=120)  # fmt: skip
    assert done.stdout.splitlines()[0] == "report: begun; a line every 30 s []", done.stderr
