"""What can go wrong outside the code, each with the line a user reads and the exit code a script
sees.

The codes follow sysexits.h: 64 usage, 65 data, 66 no input, 69 unavailable, 74 input or output, 75
try later. 76 marks a diverged run and 137 a process that was killed.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class Failure(Exception):
    """A failure that one line explains; `exit_code` is what the command line returns."""

    exit_code = 70


class BadParameter(Failure, ValueError):
    """A name or value given by the user is refused."""

    exit_code = 64


class BadData(Failure):
    """A file is not what it says it is: wrong checksum, cut short, another format."""

    exit_code = 65


class Missing(Failure, FileNotFoundError):
    """Something asked for by name is not there."""

    exit_code = 66


class Unavailable(Failure):
    """A device or service that was asked for does not exist on this machine."""

    exit_code = 69


class DiskFull(Failure, OSError):
    """A file could not be written; what was there before is kept."""

    exit_code = 74


class Busy(Failure):
    """Another process holds what this one needs."""

    exit_code = 75


class Held(Busy):
    """Another process is making this very run."""


class Paused(Busy):
    """A run has saved what it did and stopped, since a deadline is near; called again it goes on."""


class Diverged(Failure, ArithmeticError):
    """A loss stopped being a finite number; `step` is the first step at which it did."""

    exit_code = 76

    def __init__(self, message: str, step: int):
        super().__init__(message, step)  # both, so that it survives the way back from a worker
        self.step = step

    def __str__(self) -> str:
        return self.args[0]


class Killed(Failure):
    """A process that ran a notebook or a run was killed, most often because memory ran out."""

    exit_code = 137


def unknown(kind: str, name: str, names: Iterable[str]) -> BadParameter:
    """The error for a name nobody knows, with the nearest right name first and all of them after
    it.
    """
    names = sorted(names)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return BadParameter(f"unknown {kind} {name!r}; {hint}known: {', '.join(names)}")
