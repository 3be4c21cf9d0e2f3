"""BLEU as sacrebleu counts it, on raw text, and the floor that a copy of the source reaches."""

from collections.abc import Sequence

from replicate.errors import Missing


def _make_metric():
    try:
        from sacrebleu.metrics import BLEU
    except ModuleNotFoundError:
        raise Missing(
            "BLEU needs sacrebleu, which is not installed: pip install 'replicate[text]' or make env"
        ) from None
    return BLEU()


def score(translations: Sequence[str], references: Sequence[str]) -> float:
    """BLEU in percent, one reference a sentence (Papineni et al. 2002).

    Raises Missing where sacrebleu is not installed.
    """
    return _make_metric().corpus_score(list(translations), [list(references)]).score


def sign(references: Sequence[str]) -> str:
    """What a BLEU has to be printed with: the signature of `score`'s way of counting."""
    metric = _make_metric()
    metric.corpus_score(list(references), [list(references)])
    return str(metric.get_signature())
