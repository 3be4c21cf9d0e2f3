"""What was wanted of speed before it was measured: goals C1 to C13 on a CPU and G1 to G12 on a GPU.

A measurement names its goal by the key, such as "C3 32 averages"; nothing is guessed from a label.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from replicate.errors import unknown

BELOW = "missed: see below"


@dataclass(frozen=True)
class Goal:
    """What is measured, against what, and the bounds of the number.

    topic: the file that measures it, or "" with `note` to say where the number is to be had. note:
    how it came out, as README says it, or what the number does not say.
    """

    number: str
    what: str
    against: str = ""
    least: float | None = None
    most: float | None = None
    topic: str = ""
    note: str = ""

    @property
    def bounds(self) -> str:
        """The wanted range in words, such as "at least 2.3"."""
        pairs = (("least", self.least), ("most", self.most))
        return ", ".join(f"at {word} {bound:g}" for word, bound in pairs if bound is not None)

    @property
    def label(self) -> str:
        """What is measured and against what, in one phrase."""
        return f"{self.what}, against {self.against}" if self.against else self.what

    def judge(self, values: Iterable[float]) -> str:
        """ "yes" if every value is in the range, "no" if none is, "in part" otherwise."""
        low = float("-inf") if self.least is None else self.least
        high = float("inf") if self.most is None else self.most
        inside = [low <= value <= high for value in values]
        if all(inside):
            return "yes"
        return "in part" if any(inside) else "no"


LOOP = "a loop over tensors"
IN_TURN = "one after the other"
EAGER = "a loop of eager torch"
WEIGHTS = "ResNet-18's weights"
LOOKAHEAD = f"Lookahead, 5 steps on {WEIGHTS}"
EXTRAPOLATION = f"weight extrapolation, {WEIGHTS}"
IMAGES = "crop, mirror, cut out and shuffle 5120 images of 32 pixels"
STEP = "a training step of ResNet-8, batch 128, input included"
SCRIPT = "float32 script, image by image"
NEWTON = "Newton's method, 1M rows of 11 float32 numbers"
FEW_NETS = "64 networks of 700 weights, batch 128"
MANY_NETS = "256 such networks, batch 32"
RECORD = "recorded with the table"

GOALS = {
    "C1": Goal(
        "C1", LOOKAHEAD, f"{LOOP} around torch's SGD", least=2.3, topic="lookahead", note=BELOW
    ),
    "C2": Goal(
        "C2", EXTRAPOLATION, "the source's class: clones and three passes", least=6,
        topic="extrapolation",
        note="missed: 41 passes over the weights against 7, so bytes bound it at 5.9",
    ),
    "C3 8 averages": Goal("C3", f"8 averages of {WEIGHTS}", LOOP, least=4.5, topic="averages"),
    "C3 8 averaged models": Goal(
        "C3", f"8 averages of {WEIGHTS}", "torch's `AveragedModel`, one each", least=3.8,
        topic="averages",
    ),
    "C3 32 averages": Goal("C3", "32 averages", LOOP, least=9, topic="averages"),
    "C4 64 networks": Goal("C4", FEW_NETS, IN_TURN, least=6, topic="lanes"),
    "C4 64 networks compiled": Goal(
        "C4", f"{FEW_NETS}, compiled", IN_TURN, least=18, topic="lanes", note=BELOW
    ),
    "C4 256 networks": Goal("C4", MANY_NETS, IN_TURN, least=20, topic="lanes"),
    "C4 256 networks compiled": Goal(
        "C4", f"{MANY_NETS}, compiled", IN_TURN, least=50, topic="lanes", note="missed"
    ),
    "C5 128 rows": Goal("C5", "training of a small net, 128 rows", EAGER, least=12, topic="walks"),
    "C5 10000 rows": Goal(
        "C5", "training of a small net, 10 000 rows", EAGER, least=2, topic="walks"
    ),
    "C6 128 rows": Goal("C6", "KeepStepping, 128 rows", EAGER, least=8, topic="walks"),
    "C6 128 rows at once": Goal(
        "C6", "KeepStepping, 128 rows, 16 mini-steps at once", EAGER, least=18, topic="walks"
    ),
    "C6 10000 rows": Goal("C6", "KeepStepping, 10 000 rows", EAGER, least=2.6, topic="walks"),
    "C7 eager": Goal("C7", NEWTON, "eager `jax.hessian` and inverse", least=15, topic="newton"),
    "C7 compiled": Goal(
        "C7", NEWTON, "compiled `jax.hessian` and solve", least=4, topic="newton"
    ),
    "C7 lapack": Goal("C7", NEWTON, "`numpy.linalg.lstsq`", least=10, topic="newton"),
    "C7 error": Goal("C7", f"{NEWTON}: relative error", most=1e-12, topic="newton"),
    "C7 memory": Goal("C7", f"{NEWTON}: extra memory, MiB", most=180, topic="newton"),
    "C8": Goal(
        "C8", "mean squares of a noisy quadratic, 1000 dimensions",
        "a NumPy loop of 10 drawn paths", least=30, topic="quadratic",
        note="of gradient descent; `problems` has no moments of Lookahead yet",
    ),
    "C9 per image": Goal("C9", IMAGES, "image by image", least=6, topic="batches"),
    "C9 per epoch": Goal(
        "C9", IMAGES, "mask and copy, an epoch at a time", least=1.7, topic="batches"
    ),
    "C10 AMX": Goal("C10", STEP, SCRIPT, least=2.2, topic="training"),
    "C10 float32": Goal(
        "C10", f"{STEP}, without AMX", SCRIPT, least=1.35, topic="training"
    ),
    "C11 digits": Goal("C11", "test accuracy on digits", least=0.98, topic="accuracy"),
    "C11 digits seconds": Goal(
        "C11", "CPU-seconds on digits", most=3, topic="accuracy",
        note="says nothing without the processor's matrix rate",
    ),
    "C11 cifar10": Goal("C11", "test accuracy on CIFAR-10", least=0.77, topic="accuracy"),
    "C11 cifar10 seconds": Goal(
        "C11", "CPU-seconds on CIFAR-10", most=125, topic="accuracy",
        note="says nothing without the processor's matrix rate",
    ),
    "C12": Goal(
        "C12", "share of a ResNet-8 step for logging, tables, nine averages and checkpoints",
        "forward pass, backward pass and update alone", most=0.03, topic="training",
    ),
    "C13 Dask": Goal(
        "C13", "1000 runs of 0.1 s over two local Dask workers, share of the ideal", least=0.9,
        topic="sweeps", note="missed beside other programs: docs/scale.md",
    ),
    "C13 start": Goal(
        "C13", "seconds from no cluster to the end of a sweep's first run", most=10, topic="sweeps",
        note="missed beside other programs: docs/scale.md",
    ),
    "C13 publish": Goal(
        "C13", "milliseconds of the processor that a run costs beside itself", most=5,
        topic="sweeps",
    ),
    "G1": Goal(
        "G1", "ResNet-18, batch 128, a whole script", "image by image, two workers", least=4,
        topic="scripts", note=RECORD,
    ),
    "G2 float32": Goal(
        "G2", "ResNet-18, batch 128, a step", "eager float32, loss read", least=2.5,
        topic="training_step", note=RECORD,
    ),
    "G2 bfloat16": Goal(
        "G2", "ResNet-18, batch 128, a step", "eager bfloat16", least=1.8,
        topic="training_step", note=RECORD,
    ),
    "G3 resnet18 b128": Goal(
        "G3", "ResNet-18, batch 128", "the matrix rate", least=0.22, topic="training_step",
        note=RECORD,
    ),
    "G3 resnet18 b512": Goal(
        "G3", "ResNet-18, batch 512", "the matrix rate", least=0.30, topic="training_step",
        note=RECORD,
    ),
    "G3 resnet34 b512": Goal(
        "G3", "ResNet-34, batch 512", "the matrix rate", least=0.30, topic="training_step",
        note=RECORD,
    ),
    "G4 b128": Goal(
        "G4", "ResNet-18, batch 128, a whole script", "an epoch at a time on the device",
        least=1.5, topic="scripts", note=RECORD,
    ),
    "G4 b1024": Goal(
        "G4", "ResNet-18, batch 1024, a whole script", "an epoch at a time on the device",
        least=1.0, topic="scripts", note=RECORD,
    ),
    "G5": Goal(
        "G5", "Lookahead", "a ResNet-18 step, batch 128", most=0.01, topic="wrappers",
        note=RECORD,
    ),
    "G6": Goal(
        "G6", "extrapolation", "a ResNet-18 step, batch 128", most=0.04, topic="wrappers",
        note=RECORD,
    ),
    "G7 step": Goal(
        "G7", "64 averages", "a ResNet-18 step, batch 128", most=0.08, topic="wrappers",
        note=RECORD,
    ),
    "G7 lerp": Goal("G7", "64 averages", IN_TURN, least=12, topic="wrappers", note=RECORD),
    "G8 resnet18": Goal(
        "G8", "4 ResNet-18 in one graph: throughput", "one of them", least=1.15,
        topic="side_by_side", note=RECORD,
    ),
    "G8 resnet8": Goal(
        "G8", "16 ResNet-8 in one graph: throughput", "one of them", least=4,
        topic="side_by_side", note=RECORD,
    ),
    "G9 waits": Goal(
        "G9", "rounds in which the host waits for the device", most=0, topic="host", note=RECORD
    ),
    "G9 host": Goal(
        "G9", "host busy, share of a round", most=0.05, topic="host", note=RECORD
    ),
    "G10": Goal(
        "G10", "figure 5 of sandler2023trajectories on one GPU, minutes", most=15,
        note="the seconds in the provenance of its recorded table at preset gpu",
    ),
    "G11": Goal(
        "G11", "ResNet-18 runs of 200 epochs in 25 minutes, from the rate of images", least=8,
        topic="training_step", note=RECORD,
    ),
    "G12": Goal(
        "G12", "seconds of the first step: compiling and capturing", most=90,
        topic="training_step", note=RECORD,
    ),
}  # fmt: skip


def get_goal(key: str) -> Goal:
    """The goal of a key. Raises BadParameter for a key that is none, with the nearest right one."""
    if key not in GOALS:
        raise unknown("goal", key, GOALS)
    return GOALS[key]


def choose(key: str, is_stated: bool) -> str:
    """The key where the measurement is at the size that the goal is stated for, else ""."""
    get_goal(key)
    return key if is_stated else ""


def list_goals(topics: Collection[str]) -> str:
    """A line per goal of these topics; "" is the topic of goals that none measures."""
    lines = []
    for key, goal in GOALS.items():
        if goal.topic in topics:
            note = f" ({goal.note})" if goal.note else ""
            lines.append(f"goal {key}: {goal.label}: {goal.bounds}{note}")
    return "\n".join(lines)
