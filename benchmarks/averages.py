"""Goal C3: 8 and 32 running averages of ResNet-18's weights, against a loop over tensors and
against AveragedModel.

Ours are exponential averages too, as kernels, in a ring with one product every 16 steps: of weights
in one vector, as the goal means it, and of a model as it is, tensor by tensor. All see the same 16
iterates.
"""

import sys

import torch
from _interleaved import ratios, table
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from replicate.averaging import KernelAverages, ema
from replicate.models import resnet18
from replicate.training import Flat, flat_weights

STEPS, GOALS = 16, {8: 4.5, 32: 9.0, "AveragedModel": 3.8}


def deltas(count: int) -> list[float]:
    """The decay of each average."""
    return [0.5 / (1 + i) for i in range(count)]


class Loop:
    """An average a decay, a list of tensors each."""

    def __init__(self, model, count):
        self.live = [p.detach() for p in model.parameters()]
        self.averages = [(delta, [p.clone() for p in self.live]) for delta in deltas(count)]

    def update(self):
        """mean <- (1 - delta) mean + delta theta, tensor by tensor."""
        for delta, means in self.averages:
            for mean, live in zip(means, self.live, strict=True):
                mean.mul_(1 - delta).add_(live, alpha=delta)


class Models:
    """torch's own class, one an average."""

    def __init__(self, model, count):
        self.model = model
        decays = [get_ema_multi_avg_fn(1 - delta) for delta in deltas(count)]
        self.averages = [AveragedModel(model, multi_avg_fn=decay) for decay in decays]
        for average in self.averages:
            average.update_parameters(model)  # the first call only copies

    def update(self):
        """Tell every one."""
        for average in self.averages:
            average.update_parameters(self.model)


class Ring:
    """Ours: a window of as many steps as the benchmark makes, so that it never ends."""

    def __init__(self, live, count, steps):
        self.live = live
        kernels = {str(i): ema(steps, delta) for i, delta in enumerate(deltas(count))}
        self.averages = KernelAverages(kernels, self.live)

    def update(self):
        """Tell all of them."""
        self.averages.update(self.live)


def equal(count: int) -> None:
    """The loop's averages and ours are the same on iterates that move."""
    model = resnet18(10, seed=0)
    flat = Flat(resnet18(10, seed=0))
    loop = Loop(model, count)
    ring = Ring(flat.weights.detach(), count, STEPS)
    of_model = Ring(model, count, STEPS)
    models = Models(model, 2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        move = 1e-3 * torch.randn(len(flat.weights), generator=generator)
        with torch.no_grad():
            flat.weights.add_(move)
            for p, part in zip(
                model.parameters(), move.split([p.numel() for p in model.parameters()]), strict=True
            ):
                p.add_(part.view(p.shape))
        for averages in (loop, ring, of_model, models):
            averages.update()
    for i, (_, means) in enumerate(loop.averages):
        whole = torch.cat([mean.reshape(-1) for mean in means])
        for ours in (ring, of_model):
            torch.testing.assert_close(ours.averages[str(i)].float(), whole, rtol=1e-5, atol=1e-6)
    for i, average in enumerate(models.averages):
        torch.testing.assert_close(
            ring.averages[str(i)].float(), flat_weights(average.module), rtol=1e-5, atol=1e-6
        )


def sixteen(averages) -> None:
    """STEPS updates."""
    for _ in range(STEPS):
        averages.update()


def main() -> int:
    """Equal results first, then the ratios."""
    equal(8)
    rounds = 5
    for count in (8, 32):
        jobs = {"a loop over tensors": Loop(resnet18(10, 0), count)}
        if count == 8:
            jobs["AveragedModel, one each"] = Models(resnet18(10, 0), count)
        steps = STEPS * (rounds + 2)
        jobs["ring and product, told a model"] = Ring(resnet18(10, 0), count, steps)
        jobs["ring and product"] = Ring(Flat(resnet18(10, 0)).weights.detach(), count, steps)
        found = ratios(
            {name: lambda averages=averages: sixteen(averages) for name, averages in jobs.items()},
            rounds,
        )
        print(table(f"{count} averages, {STEPS} steps, ResNet-18", found))
        print(
            f"  goal C3: the loop at least {GOALS[count]}x"
            + (", AveragedModel 3.8x" if count == 8 else "")
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
