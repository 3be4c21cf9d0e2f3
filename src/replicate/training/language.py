"""loss of a window = mean over its words of -log p(word | words before) + penalties,
    theta <- theta - rate (length / bptt) u

u: the optimizer's direction, of the gradient clipped to the norm `clip`. Gradients go back to the
beginning of a window, what the model remembers goes on through an epoch. Merity, Keskar and Socher
2018, section 4.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate.errors import Diverged
from replicate.numerics import modes_restored
from replicate.training.dropout import draw_masks


class TextReader:
    """A language model that learns on its way through a text, window by window.

    `step` counts the windows that were read; the masks of a window are those of its number.
    """

    def __init__(
        self,
        model: nn.Module,
        columns: Tensor,
        optimizer: torch.optim.Optimizer,
        penalise: Callable,
        bptt: int,
        clip: float,
        seed: int,
    ):
        """model: (tokens, hidden) -> outputs with `logits` and `hidden`; columns: (rows, batch) int64
        on its device; penalise: outputs -> a penalty that is added to the loss; bptt: words of a
        window at which the rate is as it is given; clip: norm of the gradient, at most.
        """
        self.model, self.columns, self.optimizer = model, columns, optimizer
        self.penalise, self.bptt, self.clip, self.seed = penalise, bptt, clip, seed
        self.hidden = None
        self.step = 0

    def begin(self) -> None:
        """Forget what was read: an epoch begins."""
        self.hidden = None

    def read(
        self, windows: Sequence[tuple[int, int]], rate: float, averages: Sequence = ()
    ) -> float:
        """Learn from some windows, and their mean loss in nats per word, without penalties, under the
        masks.

        windows: (first, last + 1) row of the inputs; averages: told of the model after each. Raises
        Diverged, naming the window by its number, if a loss is not finite.
        """
        losses = [self._learn(start, stop, rate, averages) for start, stop in windows]
        values = torch.stack(losses).double().cpu()
        if not torch.isfinite(values).all():
            number = self.step - len(losses) + int((~torch.isfinite(values)).nonzero()[0])
            raise Diverged(f"loss is not finite at window {number} (rate {rate:g})", number)
        lengths = torch.tensor([stop - start for start, stop in windows], dtype=torch.float64)
        return float(values @ lengths / lengths.sum())

    def _learn(self, start: int, stop: int, rate: float, averages: Sequence) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (stop - start) / self.bptt
        self.model.train()
        self.optimizer.zero_grad()
        with draw_masks(self.seed, self.step, self.columns.device):
            outputs = self.model(self.columns[start:stop], self.hidden)
        loss = _cross_entropy(outputs.logits, self.columns[start + 1 : stop + 1])
        (loss + self.penalise(outputs)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        for average in averages:
            average.update(self.model)
        self.hidden = [(h.detach(), c.detach()) for h, c in outputs.hidden]
        self.step += 1
        return loss.detach()


@torch.no_grad()
def measure_text(model: nn.Module, columns: Tensor, length: int) -> float:
    """Mean nats per word of a text in evaluation mode, each column from its beginning to its end.

    columns: (rows, batch); length: words of a column at once, which bounds the memory. The sum is
    float64; every layer's mode is restored.
    """
    targets = columns[1:]
    total, hidden = 0.0, None
    with modes_restored(model):
        model.eval()
        for x, y in zip(columns[:-1].split(length), targets.split(length), strict=True):
            outputs = model(x, hidden)
            hidden = outputs.hidden
            total += float(_cross_entropy(outputs.logits, y).double()) * y.numel()
    return total / targets.numel()


def _cross_entropy(logits: Tensor, words: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), words.flatten())
