"""Goal C11, reported and not judged: what the preset's network learns of real images in a CPU time, on one thread.

One seed, fixed beforehand; the test images are looked at once, at the end. Beside it stands the rate of the processor's
matrix products, without which seconds say nothing.
"""

import sys
import time
from functools import partial

import torch
from torch.nn import functional

from replicate import datasets
from replicate.averaging import recompute_batch_norm
from replicate.datasets import Batches
from replicate.errors import Missing
from replicate.models import mlp, resnet8
from replicate.optim import SGD
from replicate.runs import gains_by_bfloat16
from replicate.training import evaluate, steps

SIZE = 128


def one_cycle(peak: float, stop: int):
    """Up to `peak` over the first fifth of the steps, then down to zero, both in a line."""
    top = stop / 5
    return lambda step: peak * min((step + 1) / top, (stop - step) / (stop - top))


def learned(title: str, images, model, peak: float, epochs: float, **augmentation) -> None:
    """Train and print CPU seconds and accuracy."""
    data = Batches(images.train_x, images.train_y, SIZE, images.classes, **augmentation)
    data.loss = partial(functional.cross_entropy, label_smoothing=0.1)
    optimizer = SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True)
    stop = int(epochs * data.per_epoch)
    start = time.process_time()
    for _ in steps(model, data, optimizer, one_cycle(peak, stop), 0, 0, 0, stop):
        pass
    seconds = time.process_time() - start
    recompute_batch_norm(model, [data.batch(0, 1, step)[0] for step in range(20)])
    _, top1 = evaluate(model, *data.plain(images.test_x, images.test_y))
    print(
        f"  {title:44} {seconds:6.1f} CPU-seconds, {stop} steps, {100 * top1:.1f} % of {len(images.test_y)}", flush=True
    )


def rate(dtype) -> float:
    """Billions of multiplications and additions a second in a product of 1024 x 1024 matrices."""
    a = torch.randn(1024, 1024).to(dtype)
    for _ in range(3):
        a @ a
    start = time.process_time()
    for _ in range(10):
        a @ a
    return 2 * 1024**3 * 10 / (time.process_time() - start) / 1e9


def main() -> int:
    """Digits, and CIFAR-10 where it is at hand."""
    torch.set_num_threads(1)
    half = gains_by_bfloat16("cpu")
    print(f"accuracy after a time; one thread, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    print(f"  matrix products: {rate(torch.float32):.0f} G/s float32, {rate(torch.bfloat16):.0f} G/s bfloat16")
    digits = datasets.load("digits")
    learned("digits, three layers of 128", digits, mlp(64, (128, 128), 10, 0), 0.2, 150, pad=1)
    try:
        cifar = datasets.load("cifar10")
    except Missing as error:
        print(f"  without cifar10: {error}")
        return 0
    learned("CIFAR-10, ResNet-8, width 32", cifar, resnet8(10, 0, 32, "stride2", half), 0.4, 4.9, pad=2, flip=True)
    print("  goal C11: digits 98 % in 3 CPU-seconds, CIFAR-10 77 % in 125")
    return 0


if __name__ == "__main__":
    sys.exit(main())
