"""Text becomes the numbers of its words, and what is no text is refused in one line."""

import gzip

import numpy as np
import pytest
from small_sets import as_file, assert_refused, cut

from replicate import datasets
from replicate.datasets import multi30k, ptb
from replicate.datasets.text import index, pair, read_lines, unzip
from replicate.errors import BadData, Missing

TRAIN = ["the cat sat", "<unk> the mat"]


def texts(train=TRAIN, valid=("the dog",), test=("a mat",)):
    return {"train": train, "valid": valid, "test": test}


# Words.


def test_words_are_numbered_as_they_come_and_every_line_has_an_end():
    corpus = index("toy", texts())
    assert corpus.words == ("the", "cat", "sat", "<eos>", "<unk>", "mat")
    assert corpus.train.tolist() == [0, 1, 2, 3, 4, 0, 5, 3]
    back = " ".join(corpus.words[place] for place in corpus.train)
    assert back == "the cat sat <eos> <unk> the mat <eos>"


def test_a_word_that_the_training_text_lacks_is_its_unknown_word():
    corpus = index("toy", texts())
    assert corpus.valid.tolist() == [0, 4, 3] and corpus.test.tolist() == [4, 5, 3]


def test_such_a_word_is_refused_where_there_is_no_unknown_word():
    without = texts(train=["the cat sat"], test=["the mat"], valid=["the cat"])
    assert_refused(lambda: index("toy", without), BadData, 65, "toy: test", "'mat'", "<unk>")


def test_the_numbers_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        index("toy", texts()).train[0] = 1


@pytest.mark.parametrize("train, count", [([""], 0), (["word"], 1), (["word word", "word"], 1)])
def test_a_text_of_no_or_one_word_is_refused(train, count):
    only = texts(train=train, valid=train, test=train)
    words = (f"{count} distinct words", "nothing to predict")
    assert_refused(lambda: index("toy", only), BadData, 65, *words)


def test_two_words_are_enough():
    assert len(index("toy", texts(["a b"], ["b"], ["a"])).words) == 3


# Files.


@pytest.mark.parametrize(
    "content",
    ["Männer\n".encode("latin-1"), "a man\n".encode("utf-16"), b"\xff\xfe"],
    ids=["latin-1", "utf-16", "a mark alone"],
)
def test_another_encoding_is_refused(content):
    assert_refused(lambda: read_lines("a.txt", content), BadData, 65, "a.txt", "UTF-8", "byte")


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\t\n "])
def test_an_empty_text_is_refused(content):
    assert_refused(lambda: read_lines("a.txt", content), BadData, 65, "a.txt has no words")


def test_lines_are_cut_at_line_feeds_alone():
    content = "one\u2028two \r\n three\x0cfour\n\nfive\n\n".encode()
    assert read_lines("a.txt", content) == ("one\u2028two", "three\x0cfour", "", "five")


@pytest.mark.parametrize("spoil", [cut, lambda content: b"no gzip", lambda content: content[:9]])
def test_a_file_that_is_no_whole_gzip_is_refused(spoil):
    content = spoil(gzip.compress(b"a man\n" * 100))
    assert_refused(lambda: unzip("a.gz", content), BadData, 65, "a.gz is cut short or no gzip")


def test_a_gzip_that_unpacks_to_too_much_is_refused():
    content = gzip.compress(bytes(1001))
    assert unzip("a.gz", content, limit=1001) == bytes(1001)
    assert_refused(lambda: unzip("a.gz", content, limit=1000), BadData, 65, "more than 1000 bytes")


def test_translations_are_line_by_line():
    labels = ("a.en", "a.de")
    assert pair(labels, (("a", "b"), ("x", "y"))) == (("a", "b"), ("x", "y"))
    words = ("a.en has 2 lines", "a.de has 1")
    assert_refused(lambda: pair(labels, (("a", "b"), ("x",))), BadData, 65, *words)
    words = ("a.de: line 2 is empty",)
    assert_refused(lambda: pair(labels, (("a", "b"), ("x", ""))), BadData, 65, *words)


# The sets.


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Let a set have other files, which lie in a folder of their own."""
    from dataclasses import replace

    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))

    def stand_in(module, contents):
        files = tuple(as_file(path, content) for path, content in contents.items())
        for path, content in contents.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
        monkeypatch.setattr(module, "DATASET", replace(module.DATASET, files=files))

    return stand_in


def test_the_files_of_running_text_are_its_splits(stand_in):
    contents = {"ptb/train": b"a b a\n", "ptb/valid": b"b\n", "ptb/test": b"a\nb\n"}
    stand_in(ptb, contents)
    corpus = datasets.load("ptb")
    assert [split.tolist() for split in (corpus.train, corpus.valid, corpus.test)] == [
        [0, 1, 0, 2],
        [1, 2],
        [0, 2, 1, 2],
    ]


def test_the_files_of_translations_are_source_and_target_of_each_split(stand_in):
    names = [f"multi30k/{split}.{language}" for split in "abc" for language in ("en", "de")]
    stand_in(multi30k, {name: gzip.compress(f"{name}\n".encode()) for name in names})
    pairs = datasets.load("multi30k")
    assert pairs.train == (("multi30k/a.en",), ("multi30k/a.de",))
    assert pairs.valid == (("multi30k/b.en",), ("multi30k/b.de",))
    assert pairs.test == (("multi30k/c.en",), ("multi30k/c.de",))


@pytest.mark.parametrize("name", ["ptb", "multi30k"])
def test_a_set_that_is_absent_says_how_to_get_it(name, monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    words = (f"{name} is not at hand in {tmp_path}", "never fetched", f"{name}/", "REPLICATE_DATA")
    for call in (datasets.load, datasets.fetch, datasets.verify):
        assert_refused(lambda call=call: call(name), Missing, 66, *words)


def need(name):
    if not datasets.at_hand(name):
        pytest.skip(f"{name} not at hand (data/README.md says how to get it)")
    return datasets.describe(name)


def test_the_penn_treebank_is_as_declared():
    dataset = need("ptb")
    corpus = datasets.load("ptb")
    splits = (corpus.train, corpus.valid, corpus.test)
    assert tuple(map(len, splits)) == dataset.tokens == (929589, 73760, 82430)
    assert len(corpus.words) == dataset.types == 10000
    assert np.array_equal(np.unique(corpus.train), np.arange(10000))
    assert [
        corpus.words[place] for place in corpus.test[:6]
    ] == "no it was n't black monday".split()
    # Every split has one end a line: 42 068, 3370 and 3761.
    end = corpus.words.index("<eos>")
    assert [int((split == end).sum()) for split in splits] == [42068, 3370, 3761]


def test_multi30k_is_as_declared():
    dataset = need("multi30k")
    pairs = datasets.load("multi30k")
    for (source, target), count in zip(
        (pairs.train, pairs.valid, pairs.test), dataset.sentences, strict=True
    ):
        assert len(source) == len(target) == count
    assert pairs.train[0][0] == "Two young, White males are outside near many bushes."
    assert pairs.train[1][0].startswith("Zwei junge weiße Männer")
