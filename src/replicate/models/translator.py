"""p(next piece) = softmax(E decode(target so far, encode(source)) + 0),   input = sqrt(d) E[piece] + position

E: one embedding for both languages and the output, d its width; positions: `place`.

Vaswani et al. 2017, Attention Is All You Need, sections 3.1, 3.4 and 3.5, with torch's
nn.Transformer between the embeddings.
"""

from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate.models.fill import fill

WAVELENGTH = 10_000.0  # section 3.5


@dataclass(frozen=True)
class Sizes:
    """A transformer of `layers` + `layers` layers for `pieces`, of which `pad` stands for nothing."""

    pieces: int
    width: int
    heads: int
    layers: int
    feed_forward: int
    dropout: float = 0.1
    norm_first: bool = False
    pad: int = 0


class Translator(nn.Module):
    """A transformer from pieces to pieces; made by `translator`, which fills it.

    It draws its dropout from torch's global generator.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.pieces, sizes.width)
        self.transformer = nn.Transformer(
            sizes.width, sizes.heads, sizes.layers, sizes.layers, sizes.feed_forward, sizes.dropout,
            custom_encoder=_make_encoder(sizes), batch_first=True, norm_first=sizes.norm_first,
        )  # fmt: skip

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (sentences, target length, pieces) of what follows each target piece.

        source, target: (sentences, length) int64, filled up with `pad` at their ends.
        """
        return self.decode(target, *self.encode(source))

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(what the decoder looks at, where it is padding): (sentences, length, width), (sentences,
        length).
        """
        padding = source == self.sizes.pad
        memory = self.transformer.encoder(self._embed(source), src_key_padding_mask=padding)
        return memory, padding

    def decode(self, target: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        """Logits as `forward` gives them, from what `encode` gave."""
        length = target.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=target.device).triu(1)
        hidden = self.transformer.decoder(
            self._embed(target), memory, tgt_mask=later, tgt_key_padding_mask=target == self.sizes.pad,
            memory_key_padding_mask=padding,
        )  # fmt: skip
        return functional.linear(hidden, self.embedding.weight)

    def _embed(self, pieces: Tensor) -> Tensor:
        x = self.embedding(pieces) * sqrt(self.sizes.width)
        x = x + place(pieces.shape[1], self.sizes.width).to(x)
        return functional.dropout(x, self.sizes.dropout, self.training)


def _make_encoder(sizes: Sizes) -> nn.TransformerEncoder:
    """nn.Transformer's own, but that it packs no sentences into nested tensors, which are a prototype."""
    layer = nn.TransformerEncoderLayer(
        sizes.width, sizes.heads, sizes.feed_forward, sizes.dropout, batch_first=True,
        norm_first=sizes.norm_first,
    )  # fmt: skip
    norm = nn.LayerNorm(sizes.width)
    return nn.TransformerEncoder(layer, sizes.layers, norm, enable_nested_tensor=False)


def place(length: int, width: int) -> Tensor:
    """sin(p / 10000^(2i / width)), cos of the same, in turn for i = 0, 1, ...: (length, width)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-log(WAVELENGTH) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


def translator(sizes: Sizes, seed: int) -> Translator:
    """The transformer at the weights of a seed, on the CPU.

    Matrices are Xavier's (uniform, Glorot and Bengio 2010), biases 0, norms 1 and 0, E ~ N(0, 1 /
    width).
    """

    def draw(name: str, shape: tuple[int, ...], draws) -> Tensor:
        if name.startswith("embedding"):
            return torch.from_numpy(draws.normal(0.0, sizes.width**-0.5, shape)).float()
        if len(shape) == 1:
            return torch.full(shape, float("norm" in name and name.endswith("weight")))
        bound = sqrt(6 / sum(shape))
        return torch.from_numpy(draws.uniform(-bound, bound, shape)).float()

    return fill(lambda: Translator(sizes), draw, seed)
