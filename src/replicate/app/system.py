"""What the operating system does to a command: errors of files and disks in one line, and signals that
end it without leaving a process behind.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from replicate.errors import DiskFull, Missing
from replicate.paths import NO_ROOM

STOPPED = 130  # exit code after Ctrl-C
TERMINATED = 128 + 15  # after SIGTERM, or SIGHUP
READER_GONE = 128 + 13  # as of a program that does not look at what it writes to
GO_ON = "run the same command again, and it goes on"
# What the system says -> what helps. Anything else is an accident of the machine.
REMEDIES = {
    errno.EACCES: "take the right to it, or work in a folder that is yours",
    errno.EPERM: "take the right to it, or work in a folder that is yours",
    errno.EROFS: "work on a disk that can be written",
    errno.ENOTDIR: "move away the file, or the link to nowhere, that is where a folder should be",
    errno.EEXIST: "move away the file, or the link to nowhere, that is where a folder should be",
    errno.EISDIR: "move the folder away that is where a file should be",
    errno.ENOTEMPTY: "move the folder away that is where a file should be",
    errno.ENAMETOOLONG: "work in a folder whose path is shorter",
    errno.ELOOP: "remove the link that leads to itself",
    errno.EMFILE: "allow more open files (ulimit -n)",
    **dict.fromkeys(NO_ROOM, "make room on the disk"),
}


def explain_system(error: OSError) -> tuple[str, int] | None:
    """One line and the exit code for what the system refused; None for an error that is not its own."""
    if error.errno is None:
        return None
    if error.filename is None:
        place = ""
    else:
        names = [
            os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None
        ]
        place = f"{_shorten(names[-1])}: "
    if error.errno == errno.ENOENT:
        line = f"Missing: {place}{error.strerror}; it was there before; {GO_ON}"
        return line, Missing.exit_code
    kind = "DiskFull" if error.errno in NO_ROOM else "NotPossible"
    remedy = REMEDIES.get(error.errno, "see to the disk or the machine")
    return f"{kind}: {place}{error.strerror}; {remedy}; {GO_ON}", DiskFull.exit_code


def _shorten(name: str, longest: int = 300) -> str:
    """A path in one line that can be read, whatever it is made of."""
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= longest else f"{text[: longest // 2]}...{text[-longest // 2 :]}"


@contextmanager
def end_by_signal() -> Iterator[list[int]]:
    """Within the block SIGTERM, and the loss of the terminal, end the command as Ctrl-C does, so that
    it stops its workers; gives the list of those that came. Who ignores a signal, as nohup does, goes
    on ignoring it.
    """
    came: list[int] = []

    def end(number: int, frame) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> None:
    """End this process with a code; at once where a thread still waits for a notebook, whose kernel
    ends with this process.
    """
    waiting = [thread for thread in threading.enumerate() if not thread.daemon]
    if code in (STOPPED, TERMINATED) and len(waiting) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def drop_output() -> None:
    """Let what is still to be written go nowhere: its reader, such as `head`, has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
