"""h_t = LSTM(D_l x_t; U * M),   p(next word) = softmax(E D h_t + b),   x_t = D_i (E * D_w)[word_t]

E: embedding, which is the output's matrix too; U: `weight_hh`, what a layer hands to itself, and M
its mask (weight drop); D_w: mask of whole words of E; D_i, D_l, D: masks of inputs, of what goes
from layer to layer and of outputs, the same at all times of a window. Each mask holds 0 with its
probability and else 1 / (1 - probability); they are drawn anew for every window, and are all 1 in
evaluation mode.

Merity, Keskar and Socher 2018, Regularizing and Optimizing LSTM Language Models (ICLR), sections 2
and 4. The penalties AR and TAR are `penalise`.
"""

from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from replicate.models.fill import fill

EMBEDDING_BOUND = 0.1  # of the uniform distribution of E; section 5
RECURRENT = "weight_hh_l0"
Hidden = list[tuple[Tensor, Tensor]]  # (h, c) of each layer, (1, batch, width) each


@dataclass(frozen=True)
class Shape:
    """Sizes, and the probabilities of 0 in every mask.

    The last layer is as wide as the embedding, whose matrix the output shares.
    """

    words: int
    embedding: int
    hidden: int
    layers: int
    word_drop: float = 0.0  # D_w
    input_drop: float = 0.0  # D_i
    hidden_drop: float = 0.0  # D_l
    output_drop: float = 0.0  # D
    weight_drop: float = 0.0  # M

    @property
    def widths(self) -> list[tuple[int, int]]:
        """(inputs, units) of each layer."""
        units = [self.hidden] * (self.layers - 1) + [self.embedding]
        return list(zip([self.embedding, *units], units, strict=False))


class Outputs(NamedTuple):
    """What a window gives.

    logits: (length, batch, words); hidden: where the next window begins; last: outputs of the last
    layer, (length, batch, embedding); dropped: the same under the mask D.
    """

    logits: Tensor
    hidden: Hidden
    last: Tensor
    dropped: Tensor


class AWDLSTM(nn.Module):
    """The language model of a shape; made by `awd_lstm`, which fills it.

    It draws its masks from torch's global generator.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.words, shape.embedding)
        self.layers = nn.ModuleList(nn.LSTM(*width) for width in shape.widths)
        self.bias = nn.Parameter(torch.zeros(shape.words))

    def forward(self, tokens: Tensor, hidden: Hidden | None = None) -> Outputs:
        """tokens: (length, batch) int64; hidden: of the window before, zeros if there is none."""
        shape = self.shape
        embedding = self.embedding.weight * self._mask((shape.words, 1), shape.word_drop)
        x = functional.embedding(tokens, embedding)
        x = x * self._lock(x, shape.input_drop)
        hidden, ends = hidden or [None] * shape.layers, []
        for number, (layer, begin) in enumerate(zip(self.layers, hidden, strict=True), 1):
            recurrent = getattr(layer, RECURRENT)
            weights = {RECURRENT: recurrent * self._mask(recurrent.shape, shape.weight_drop)}
            last, end = functional_call(layer, weights, (x, begin))
            ends.append(end)
            x = last * self._lock(last, self._drop_behind(number))
        return Outputs(functional.linear(x, self.embedding.weight, self.bias), ends, last, x)

    def _drop_behind(self, layer: int) -> float:
        return self.shape.output_drop if layer == self.shape.layers else self.shape.hidden_drop

    def _lock(self, x: Tensor, drop: float) -> Tensor:
        """A mask that is the same at all times: (1, batch, width)."""
        return self._mask((1, *x.shape[1:]), drop)

    def _mask(self, shape: tuple[int, ...], drop: float) -> Tensor | float:
        if not self.training or drop == 0:
            return 1.0
        return self.bias.new_empty(shape).bernoulli_(1 - drop) / (1 - drop)


def penalise(outputs: Outputs, activation: float, change: float) -> Tensor:
    """AR + TAR = activation mean((D h_t)^2) + change mean((h_{t+1} - h_t)^2), of the last layer.

    Section 4.6; TAR is 0 for a window of one token.
    """
    activations = activation * outputs.dropped.square().mean()
    if len(outputs.last) < 2:
        return activations
    return activations + change * outputs.last.diff(dim=0).square().mean()


def awd_lstm(shape: Shape, seed: int) -> AWDLSTM:
    """The language model at the weights of a seed, on the CPU.

    E ~ U(-0.1, 0.1) and b = 0 (section 5); the weights of a layer of n units ~ U(-1, 1) / sqrt(n),
    as torch.nn.LSTM's.
    """

    def draw(name: str, shape: tuple[int, ...], draws) -> Tensor:
        if name == "bias":
            return torch.zeros(shape)
        units = 4  # the gates, below each other in every matrix of an LSTM
        bound = EMBEDDING_BOUND if name.startswith("embedding") else 1 / sqrt(shape[0] / units)
        return torch.from_numpy(draws.uniform(-bound, bound, shape)).float()

    return fill(lambda: AWDLSTM(shape), draw, seed)
