"""Sentences as pieces of words, by byte-pair encoding on both languages together.

Sennrich, Haddow and Birch 2016, as sentencepiece does it: pieces are a function of the sentences
and their number.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

from replicate.errors import BadParameter, Missing

UNSEEN = 1  # the piece of a character that no training sentence has


class Marks(NamedTuple):
    """The pieces that stand for no text."""

    pad: int = 0
    begin: int = 2
    end: int = 3


PIECE_MARKS = Marks()


class Pieces:
    """The pieces of some sentences: to numbers and back.

    >>> pieces = Pieces(["a man", "a mat", "ein Mann"], 16)
    >>> pieces.decode(pieces.encode(["a man"]))
    ['a man']
    """

    def __init__(self, sentences: Sequence[str], count: int):
        """count: how many pieces, four marks among them.

        Raises Missing where sentencepiece is not installed, and BadParameter, with the number that is
        possible, if the sentences have fewer pieces than that, or more characters.
        """
        try:
            import sentencepiece
        except ModuleNotFoundError:
            raise Missing(
                "pieces of words need sentencepiece, which is not installed: "
                "pip install 'replicate[text]' or make env"
            ) from None
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences), model_writer=model, model_type="bpe", vocab_size=count,
                character_coverage=1.0, num_threads=1, minloglevel=2, pad_id=PIECE_MARKS.pad, unk_id=UNSEEN,
                bos_id=PIECE_MARKS.begin, eos_id=PIECE_MARKS.end,
            )  # fmt: skip
        except RuntimeError as error:
            reason = " ".join(str(error).split()).rpartition("] ")[2]  # behind a place in its code
            raise BadParameter(
                f"pieces: {count} cannot be made of {len(sentences)} sentences: {reason}"
            ) from None
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The numbers of the pieces of each sentence, without marks."""
        return self._processor.encode(list(sentences), num_threads=1)

    def decode(self, numbers: Sequence[Sequence[int]]) -> list[str]:
        """The sentences of some pieces."""
        return self._processor.decode([list(map(int, each)) for each in numbers], num_threads=1)
