"""What every data set declares: its files with their checksums, where they come from, its terms."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from replicate.datasets import files
from replicate.datasets.files import File


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set as its module declares it; to import that module reads no file.

    `files` lie below the data folder and are read in this order. `url` leads to `archive`, which
    holds them; where there is no `url`, `by_hand` says how to put them there. `origin` and `terms`
    are sentences of data/README.md.
    """

    name: str
    origin: str
    terms: str
    files: tuple[File, ...]
    url: str | None = None
    archive: File | None = None
    by_hand: str = ""

    @property
    def place(self) -> str:
        """The folder, with a slash at its end, or the file that has to lie in the data folder."""
        folder, slash, _ = self.files[0].path.partition("/")
        return folder + slash

    def checksum(self) -> str:
        """SHA-256 (hex) of the checksums and paths of all files: it stands for their every byte."""
        lines = [f"{file.sha256}  {file.path}\n" for file in self.files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def is_at_hand(self, folder: Path) -> bool:
        """Whether every file lies below `folder` with its size; no file is read."""
        try:
            return not any(files.find_damage(file, folder) for file in self.files)
        except OSError:
            return False

    def find_damage(self, folder: Path) -> str | None:
        """How the first file that is there, but not as declared, differs; no file is read.

        None if there is no such file. Raises Missing if a file cannot be looked at.
        """
        for file in self.files:
            try:
                damage = files.find_damage(file, folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise files.explain_unreadable(folder / file.path, error) from error
            if damage:
                return damage
        return None

    def verify(self, folder: Path) -> list[tuple[str, str]]:
        """(file, SHA-256) of every file, each read in full.

        Raises Missing or BadData for the first file that is absent or differs.
        """
        return [(file.path, file.sha256) for file, _ in self.read(folder)]

    def read(self, folder: Path) -> Iterator[tuple[File, bytes]]:
        """Each file with its bytes, which were checked. Raises Missing, BadData."""
        for file in self.files:
            yield file, files.read(file, folder, self.explain_absence(folder, file), self.remedy)

    def explain_absence(self, folder: Path, file: File) -> str:
        """The line for a file that is not below `folder`, and what to do."""
        fetched = f"run make data NAME={self.name}, or set REPLICATE_DATA to a folder that has "
        remedy = fetched + self.place if self.url else self.by_hand
        absent = f"no {file.path} of {file.size} bytes"
        return f"{self.name} is not at hand in {folder} ({absent}); {remedy}"

    @property
    def remedy(self) -> str:
        """What to do where a file is damaged."""
        if self.url:
            return f"delete it and run python -m replicate data fetch {self.name}"
        return f"put the right one there, or delete it to go on without {self.name}"
