"""Text as numbers: files become sentences, sentences words, and words their places in a vocabulary.

A vocabulary lists the distinct words of the training text in the order in which they first appear,
with END_OF_LINE behind every line, so that it is a function of the text alone.
"""

import gzip
import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replicate.datasets.dataset import DataSet
from replicate.errors import BadData

END_OF_LINE = "<eos>"  # the word behind every line
UNKNOWN = "<unk>"  # what a word that the training text lacks is read as, where the text has it
FEWEST_WORDS = 2  # distinct ones; of fewer there is nothing to predict
TEXT_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Running text in three splits, each (tokens,) int64: places in `words`; read-only."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    words: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sentences in two languages, split -> (source, target), as many of one as of the other."""

    name: str
    train: tuple[tuple[str, ...], tuple[str, ...]]
    valid: tuple[tuple[str, ...], tuple[str, ...]]
    test: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class RunningText(DataSet):
    """A text for language models: its files are the splits, in the order of TEXT_SPLITS.

    tokens: how many words each split has, END_OF_LINE among them; types: distinct words.
    """

    tokens: tuple[int, int, int]
    types: int

    def load(self, folder: Path) -> Corpus:
        """The text, from the files below `folder`. Raises Missing or BadData."""
        texts = {
            split: read_lines(file.path, content)
            for split, (file, content) in zip(TEXT_SPLITS, self.read(folder), strict=True)
        }
        return index(self.name, texts)


@dataclass(frozen=True, kw_only=True)
class ParallelText(DataSet):
    """Translations: its files are source and target of each split, gzipped, in the order of TEXT_SPLITS.

    languages: the source's and the target's; sentences: how many pairs each split has.
    """

    languages: tuple[str, str]
    sentences: tuple[int, int, int]

    def load(self, folder: Path) -> Pairs:
        """The sentences, from the files below `folder`. Raises Missing or BadData."""
        texts = [
            read_lines(file.path, unzip(file.path, content)) for file, content in self.read(folder)
        ]
        names = [file.path for file in self.files]
        return Pairs(self.name, *(pair(names[i : i + 2], texts[i : i + 2]) for i in (0, 2, 4)))


def read_lines(label: str, content: bytes) -> tuple[str, ...]:
    """The lines of a text in UTF-8, without blanks at their ends; those at its end that are empty
    left out.

    Raises BadData, naming `label`, for another encoding or if there is no word.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"byte {error.start} is {content[error.start]:#04x}"
        raise BadData(f"{label} is no text in UTF-8 ({place}); convert it to UTF-8") from None
    if not text.strip():
        raise BadData(f"{label} has no words; put a text there")
    # Not splitlines, which would also cut at form feeds and other separators within a sentence.
    return tuple(line.strip() for line in text.rstrip("\n").split("\n"))


def unzip(label: str, content: bytes, limit: int = 2**26) -> bytes:
    """The bytes of a gzip file. Raises BadData if it is none, is cut short, or has more than `limit`
    bytes inside.
    """
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            text = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{label} is cut short or no gzip file ({error}); refused") from error
    if len(text) > limit:
        raise BadData(f"{label} unpacks to more than {limit} bytes, its upper bound; refused")
    return text


def index(name: str, texts: dict[str, Sequence[str]]) -> Corpus:
    """The splits as numbers, by the vocabulary of the training text.

    texts: split -> lines. A word that the training text lacks is UNKNOWN where that is a word of it.
    Raises BadData where it is not, and for a training text of fewer than two distinct words.
    """
    words = tuple(dict.fromkeys(_list_words(texts["train"])))
    if len(words) - 1 < FEWEST_WORDS:  # beside END_OF_LINE
        raise BadData(
            f"{name}: the training text has {len(words) - 1} distinct words, "
            f"want {FEWEST_WORDS} or more; there is nothing to predict"
        )
    places = {word: place for place, word in enumerate(words)}
    return Corpus(
        name, *(_index(name, split, texts[split], places) for split in TEXT_SPLITS), words
    )


def pair(labels: Sequence[str], texts: Sequence[Sequence[str]]) -> tuple[tuple, tuple]:
    """Source and target sentences. Raises BadData unless they are as many and none is empty."""
    counts = [len(text) for text in texts]
    if counts[0] != counts[1]:
        raise BadData(
            f"{labels[0]} has {counts[0]} lines and {labels[1]} has {counts[1]}; line by line they "
            "must be translations"
        )
    for label, text in zip(labels, texts, strict=True):
        if "" in text:
            raise BadData(f"{label}: line {text.index('') + 1} is empty; remove it in both files")
    return tuple(texts[0]), tuple(texts[1])


def _list_words(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        yield from line.split()
        yield END_OF_LINE


def _index(name: str, split: str, lines: Sequence[str], places: dict[str, int]) -> np.ndarray:
    unknown = places.get(UNKNOWN)
    numbers = [places.get(word, unknown) for word in _list_words(lines)]
    if None in numbers:
        word = next(word for word in _list_words(lines) if word not in places)
        raise BadData(
            f"{name}: {split} has the word {word[:40]!r}, which the training text lacks, as it lacks "
            f"{UNKNOWN}"
        )
    array = np.array(numbers, dtype=np.int64)
    array.flags.writeable = False
    return array
