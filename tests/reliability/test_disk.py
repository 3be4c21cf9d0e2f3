"""A real disk that is full, has no room for another file's name, or cannot be written: one line, and the
same command finishes once there is room.

It is a small disk in memory, which only root can make; where this process may not, the answers that
test_system.py puts in the system's mouth stand for it.
"""

import subprocess

import pytest
from test_system import RUN, alone, call, finishes, refused  # noqa: F401

from replicate import paths

KIND = "refusals of the operating system"
FILES = 60  # that the disk has room for; a run makes two dozen


@pytest.fixture
def disk(alone):  # noqa: F811
    """The folder build/ as a disk of its own of 400 kB; a function that mounts it anew with other options."""
    paths.BUILD.mkdir()

    def mount(options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(paths.BUILD)]
        return subprocess.run(command, capture_output=True, timeout=20).returncode

    if mount(f"size=400k,nr_inodes={FILES}"):
        pytest.skip("this user may not mount a disk")
    yield mount
    subprocess.run(["umount", "--lazy", str(paths.BUILD)], check=True, timeout=20)


def fill(leave: int) -> None:
    """Write all but `leave` bytes of the disk, whatever it holds."""
    with (paths.BUILD / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave))


@pytest.mark.parametrize("leave", [0, 8192, 32_768])
def test_a_full_disk_is_one_line_and_once_there_is_room_the_same_command_finishes(
    call,  # noqa: F811
    disk,
    leave,
):
    fill(leave)
    line = refused(
        call, RUN, 74, "No space left on device"
    )  # of a plain write the system names no file
    assert line.startswith("DiskFull: ")
    assert not list(paths.BUILD.rglob("*.part"))
    (paths.BUILD / "filler").unlink()
    finishes(call)


@pytest.mark.parametrize("leave", [0, 7])
def test_a_disk_that_takes_no_more_files_is_one_line(call, disk, leave):  # noqa: F811
    made = []
    try:
        while True:
            made.append(paths.BUILD / f"filler{len(made)}")
            made[-1].touch()
    except OSError:
        made.pop()
    for path in made[:leave]:
        path.unlink()
    line = refused(call, RUN, 74)
    assert "No space left on device" in line and str(paths.BUILD) in line
    for path in made[leave:]:
        path.unlink()
    finishes(call)


def test_a_disk_that_cannot_be_written_is_one_line_and_what_is_on_it_is_read(call, disk):  # noqa: F811
    assert disk("remount,ro") == 0
    assert "Read-only file system" in refused(call, RUN, 74, str(paths.BUILD))
    assert disk("remount,rw") == 0
    finishes(call)
    assert disk("remount,ro") == 0
    finishes(call)
