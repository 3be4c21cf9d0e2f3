"""Pieces of words, and mini-batches of sentence pairs."""

import sys

import pytest
import torch

from replicate.datasets.pieces import PIECE_MARKS, Pieces
from replicate.datasets.sentences import Sentences
from replicate.errors import BadParameter, Missing

ENGLISH = ["a man in a hat", "two men on a bench", "a dog runs", "a man runs", "men in hats"] * 3
GERMAN = ["ein Mann mit Hut", "zwei Männer auf einer Bank", "ein Hund läuft", "ein Mann läuft"] * 3


@pytest.fixture(scope="module")
def pieces():
    pytest.importorskip("sentencepiece")
    return Pieces([*ENGLISH, *GERMAN], 60)


def test_sentences_come_back_from_their_pieces(pieces):
    for sentences in (ENGLISH, GERMAN):
        assert pieces.decode(pieces.encode(sentences)) == sentences


def test_pieces_are_as_many_as_asked_and_marks_are_none_of_a_sentence(pieces):
    numbers = {number for each in pieces.encode([*ENGLISH, *GERMAN]) for number in each}
    assert len(pieces) == 60 and numbers <= set(range(60)) - {*PIECE_MARKS}
    assert pieces.decode([[PIECE_MARKS.begin, *pieces.encode(["a man"])[0], PIECE_MARKS.end]]) == [
        "a man"
    ]


def test_frequent_words_are_whole_and_rare_ones_in_pieces(pieces):
    [whole], [rare] = pieces.encode(["a"]), pieces.encode(["bench"])
    assert len(whole) == 1 and len(rare) > 1


def test_the_same_sentences_give_the_same_pieces(pieces):
    again = Pieces([*ENGLISH, *GERMAN], 60)
    assert again.encode(ENGLISH) == pieces.encode(ENGLISH)


@pytest.mark.parametrize(
    "sentences, count, words",
    [
        (ENGLISH, 10_000, ("10000", "15 sentences", "<=")),
        (ENGLISH, 5, ("5 cannot be made", "5 vs")),
    ],
    ids=["more than the text has", "fewer than its characters"],
)
def test_a_vocabulary_that_the_text_cannot_have_is_one_line(sentences, count, words):
    pytest.importorskip("sentencepiece")
    with pytest.raises(BadParameter) as caught:
        Pieces(sentences, count)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("sentences", [[], [""], ["a"]])
def test_a_text_without_pieces_is_one_line(sentences):
    pytest.importorskip("sentencepiece")
    with pytest.raises(BadParameter) as caught:
        Pieces(sentences, 30)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("pieces: 30 cannot")


def test_a_missing_sentencepiece_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(Missing, match=r"need sentencepiece, which is not installed.*make env"):
        Pieces(ENGLISH, 60)


# Mini-batches.

SOURCE = [[10 + i] * (1 + i % 5) for i in range(103)]
TARGET = [[200 + i] * (1 + (3 * i) % 7) for i in range(103)]


def read_rows(table):
    """The pieces of each row without what fills it up."""
    return [[piece for piece in row if piece != PIECE_MARKS.pad] for row in table.tolist()]


def test_an_epoch_has_every_pair_once_but_those_left_over():
    data = Sentences(SOURCE, TARGET, 10)
    assert data.per_epoch == 10
    seen = []
    for step in range(10):
        source, target = map(read_rows, data.batch(4, step))
        for x, y in zip(source, target, strict=True):
            place = x[0] - 10
            assert x == [*SOURCE[place], PIECE_MARKS.end]
            assert y == [PIECE_MARKS.begin, *TARGET[place], PIECE_MARKS.end]
            seen.append(place)
    assert len(seen) == len(set(seen)) == 100


def test_rows_are_filled_up_to_the_longest_and_no_further():
    for table in Sentences(SOURCE, TARGET, 10).batch(4, 3):
        lengths = (table != PIECE_MARKS.pad).sum(1)
        assert lengths.max() == table.shape[1] and lengths.min() >= 2
        for row, length in zip(table, lengths, strict=True):
            assert (row[length:] == PIECE_MARKS.pad).all() and (
                row[:length] != PIECE_MARKS.pad
            ).all()


def test_little_is_filled_up():
    source = [[5] * (1 + (7 * i) % 30) for i in range(400)]
    data = Sentences(source, source, 20)
    tables = [data.batch(0, step)[1] for step in range(data.per_epoch)]
    full = sum((table != PIECE_MARKS.pad).sum() for table in tables)
    assert sum(table.numel() for table in tables) < 1.15 * full  # 1.9 times it without sorting


def test_batches_are_those_of_seed_and_step_in_any_order():
    data, other = Sentences(SOURCE, TARGET, 10), Sentences(SOURCE, TARGET, 10)
    forth = [data.batch(1, step) for step in range(25)]
    back = [other.batch(1, step) for step in reversed(range(25))][::-1]
    assert all(
        torch.equal(a, b)
        for x, y in zip(forth, back, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    firsts = {
        tuple(data.batch(seed, step)[0][:, 0].tolist()) for seed in (1, 2) for step in (0, 10)
    }
    assert len(firsts) == 4  # seeds and epochs differ


def test_batches_of_an_epoch_are_not_in_the_order_of_their_lengths():
    source = [[5] * (1 + i % 40) for i in range(400)]
    data = Sentences(source, source, 10)
    lengths = [data.batch(0, step)[0].shape[1] for step in range(20)]
    assert lengths != sorted(lengths) and lengths != sorted(lengths, reverse=True)


@pytest.mark.parametrize("size", [0, 104, -1])
def test_a_batch_that_cannot_be_is_refused(size):
    with pytest.raises(BadParameter, match=rf"batch must be in \[1, 103\], got {size}"):
        Sentences(SOURCE, TARGET, size)
