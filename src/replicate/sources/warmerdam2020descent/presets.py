"""The post's settings and what each preset changes in them: seven tasks of the post, three of ours,
and two of a reader's images.
"""

from collections.abc import Mapping
from dataclasses import replace

from replicate.sources.warmerdam2020descent._images import ImageTask
from replicate.sources.warmerdam2020descent.settings import ARMS, Settings

PAPER = Settings()
LARGE_TASK = {"rows": 100_000, "lr": 1e-4}  # Figures 11 to 13
TASKS = {
    "regression": replace(
        PAPER, dataset="regression", rows=1_000_000, columns=10, maps=1, lr=0.02, steps=100
    ),
    "figure9": PAPER,
    "figure10": replace(PAPER, dataset="figure10", lr=1e-4),
    "figure11": replace(PAPER, dataset="figure11", columns=100, width=20, **LARGE_TASK),
    "figure12": replace(
        PAPER, dataset="figure12", columns=10, maps=5, activation="relu", **LARGE_TASK
    ),
    "figure13": replace(PAPER, dataset="figure13", columns=100, maps=1, **LARGE_TASK),
    "figure13code": replace(
        PAPER, dataset="figure13code", columns=100, width=20, maps=2, **LARGE_TASK
    ),
    "minibatch": replace(PAPER, dataset="minibatch", noise=1.0, batches=(64, 2048, 10_000)),
    "overfit": replace(PAPER, dataset="overfit", rows=60, noise=1.0, batches=(60,)),
    "resnet18": replace(PAPER, dataset="resnet18", rows=32, batches=(32,), tuning_rows=32),
}
ALGEBRA = {"algebra": replace(PAPER, dataset="algebra")}

TEN_SEEDS = tuple(range(10))
HALF_DECADES = PAPER.grid[2:-1]  # 1e-5 to 10
TUNED = ("SGD", "ADAM", "KS_50_0 corrected", "KS_50_2 corrected", "KS_50_2 rollback", "KV_50 published",
         "KV_50 corrected", "ARMIJO", "EXACT", "LBFGS")  # fmt: skip
FEWEST = ("SGD", "ADAM", "KS_50_2 published", "KS_50_2 corrected")
FEWER = ("SGD", "ADAM", "KS_50_2 corrected")
SWEPT = ("SGD", "ADAM", "KS_50_0 corrected", "KS_50_2 corrected", "KV_50 corrected", "ARMIJO")
LINEAR_ONLY = "EXACT"  # along a line the loss of a net with ReLU is no polynomial


def enlarge(task: Settings) -> Settings:
    """A task with seeds, arms and rates enough for an interval."""
    arms, tuned = (tuple(arm for arm in names if arm != LINEAR_ONLY or task.activation == "linear")
                   for names in (ARMS, TUNED))  # fmt: skip
    sweep = {"sweep": HALF_DECADES, "sweep_seeds": TEN_SEEDS[:8], "sweep_arms": SWEPT}
    tuning = {"tuned": tuned, "tuning_rows": min(task.rows, 10_000)}
    return replace(task, seeds=TEN_SEEDS, arms=arms, **tuning, **sweep)


def tiny(settings: Settings | ImageTask) -> Settings | ImageTask:
    """A task at which every line runs once. Most is compiling, which few maps and equal shapes
    shorten.
    """
    if isinstance(settings, ImageTask):
        return shrink_images(settings)
    rows = min(settings.rows, 2 if settings.dataset == "resnet18" else 1000)
    columns = {"figure11": PAPER.columns, "figure13": 10}.get(settings.dataset, settings.columns)
    sizes = {"rows": rows, "tuning_rows": min(rows, 500), "form_rows": 200, "test_rows": 500, "steps": 20,
             "maps": min(settings.maps, 2), "columns": columns, "width": PAPER.width, "walk_gradients": 5,
             "batches": tuple(sorted({min(b, rows) for b in settings.batches}))}  # fmt: skip
    runs = {"seeds": (0, 1), "grid": (1e-3, 3e-3), "sweep": (1e-3, 1e-2), "sweep_seeds": (0, 1),
            "sweep_arms": FEWER, "arms": FEWEST, "tuned": FEWER}  # fmt: skip
    timing = {"repeats": 1, "fit_repeats": 1, "fit_precisions": ("float32",), "blocks": 1}
    return replace(settings, **sizes, **runs, **timing)


def shrink_images(task: ImageTask) -> ImageTask:
    """A task on images at which every line runs once."""
    sizes = {"width": 8, "batch": 16, "steps": 20, "walk_gradients": 5, "norm_batches": 1}
    sets = {"curve_images": 100, "test_images": 100}
    return replace(task, **sizes, **sets, seeds=(0, 1), grid=task.grid[1:4], shares=2)


def change(presets: Mapping[str, Settings], changes: Mapping[str, Mapping]) -> dict[str, Settings]:
    """A preset with some fields of some entries changed."""
    return {
        entry: replace(settings, **changes.get(entry, {})) for entry, settings in presets.items()
    }


FULL = {name: enlarge(task) for name, task in TASKS.items()}
OF_THE_POST = ("SGD", "ADAM", *(f"{name} published" for name in
               ("KS_50_0", "KS_50_2", "KS_10_0", "KS_10_2", "KV_10", "KV_50")))  # fmt: skip
AT_CPU = {
    # A gradient of its rows takes 9 ms on one core, and every arm a thousand of them.
    "figure12": {
        "seeds": TEN_SEEDS[:5],
        "arms": (*OF_THE_POST, "KS_50_2 corrected"),
        "tuned": FEWER,
        "tuning_rows": 2000,
        "neighbours": False,  # no primary case of a tuned rate is on this figure
        "repeats": 9,
    },
    "figure11": {"repeats": 9},
    "figure13code": {"arms": (*OF_THE_POST, "KS_50_2 corrected"), "tuned": FEWER, "repeats": 9},
    "minibatch": {"seeds": TEN_SEEDS[:6], "steps": 400},
    "regression": {"seeds": TEN_SEEDS[:6]},
    "figure13": {"repeats": 9, "fit_precisions": ("float32",)},
    "resnet18": {"repeats": 1, "blocks": 6},
}
AT_GPU = {name: {"fit_repeats": 5} for name in FULL}
RESNET_AT_GPU = {"resnet18": {"rows": 128, "batches": (128,), "tuning_rows": 128}}

# Half decades, as the figures' grid; looked at on a seed of its own so that no arm's best rate lies
# at an end.
IMAGES_OF_DIGITS = ImageTask(
    steps=200, walk_gradients=50, grid=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), seeds=TEN_SEEDS[:8]
)
PICTURES = ImageTask(
    dataset="cifar10", model="resnet8", width=16, stem="stride2", pad=4, flip=True, walk_gradients=100,
    grid=(0.03, 0.1, 0.3, 1.0, 3.0), seeds=TEN_SEEDS[:8], test_images=2000,
)  # fmt: skip
PICTURES_AT_CPU = replace(
    PICTURES,
    steps=60,
    walk_gradients=20,
    seeds=TEN_SEEDS[:5],
    arms=("SGD", "ADAM", "KS_50_2 corrected", "KV_50 corrected"),
    neighbours=False,  # what they cost is half of a seed; the night has them
    shares=2,
    test_images=1000,
    norm_batches=2,
)

PRESETS: dict[str, dict[str, Settings | ImageTask]] = {
    "smoke": {name: tiny(settings) for name, settings in FULL.items() if name != "figure13code"}
    | {"digits": tiny(IMAGES_OF_DIGITS)},
    "cpu": change(FULL, AT_CPU) | {"digits": IMAGES_OF_DIGITS, "cifar10": PICTURES_AT_CPU},
    "night": {"cifar10": PICTURES},
    "gpu": change(change(FULL, AT_GPU), RESNET_AT_GPU),
    "paper": change(FULL, {name: {"seeds": tuple(range(20)), "blocks": 20} for name in FULL}),
}

OURS = {
    "minibatch": "mini-batches with noise on y",
    "overfit": "60 rows with noise on y",
    "resnet18": "ResNet-18 on noise",
    "digits": "a perceptron on digits",
    "cifar10": "ResNet-8 on CIFAR-10",
}
OF_THE_TASK = (
    "rows",
    "columns",
    "width",
    "maps",
    "activation",
    "noise",
    "lr",
    "steps",
    "walk_gradients",
)


def setting(entry: str, settings: Mapping[str, object]) -> str:
    """ "the source's", or what stands in for it. settings: fields by name, as provenance keeps
    them.

    Seeds, arms and tuning are ours in every entry and do not count.
    """
    dataset = settings["dataset"]
    if dataset in ALGEBRA:
        return "the source's"
    if dataset in OURS:
        return f"stand-in: {OURS[dataset]}"
    task = TASKS[dataset]
    changes = [
        f"{name} {settings[name]}" for name in OF_THE_TASK if settings[name] != getattr(task, name)
    ]
    return f"stand-in: {', '.join(changes)}" if changes else "the source's"
