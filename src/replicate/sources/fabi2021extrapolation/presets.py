"""The source's settings and what each preset changes in them."""

from collections.abc import Mapping
from dataclasses import replace

from replicate.sources.fabi2021extrapolation.settings import Settings

PAPER = Settings()

ALGEBRA = {"quadratic": replace(PAPER, dataset="quadratic", arms=(), searched=())}

RATE_GRID = tuple(
    round(0.002 * 10 ** (i / 3), 6) for i in range(10)
)  # 0.002 to 2, which holds 0.02

TOY = replace(PAPER, arms=("adam", "GD+", "gradient"), searched=(), seeds=(0,))
TOYS = {  # rate, dt: the post's table; steps and starts: its figures
    "rosenbrock": replace(
        TOY, dataset="rosenbrock", lr=0.1, dt=1e-4, steps=2000, start=(-1.5, 1.0)
    ),
    "beale": replace(TOY, dataset="beale", lr=0.01, dt=1e-4, steps=4000, start=(-2.5, -1.0)),
    "goldstein-price": replace(
        TOY, dataset="goldstein-price", lr=0.001, dt=1e-5, steps=4000, start=(0.5, 0.25)
    ),
}
# The dt that is drawn; Beale's is the figure's, not the table's.
DRAWN = {"rosenbrock": 1e-4, "beale": 8e-4, "goldstein-price": 1e-5}
STRIDES = (1e-10, 1e-6, 1e-4, 8e-4, 3e-3)
TOYS_OF_FIGURES = TOYS | {"beale": replace(TOYS["beale"], strides=(8e-4,))}  # what the figures show
ALL = ("adam", "GD+", "gradient", "weights", "rate")
ALL_TOYS = {name: replace(toy, strides=STRIDES, arms=ALL) for name, toy in TOYS.items()}
ALL_TOYS["rosenbrock"] = replace(
    ALL_TOYS["rosenbrock"], searched_strides=(1e-6, 1e-5, 1e-4, 3e-4, 1e-3)
)
ALL_TOYS["goldstein-price"] = replace(ALL_TOYS["goldstein-price"], basin_starts=1000)

DIGITS = replace(
    PAPER,
    dataset="digits",
    model="mlp",
    width=96,
    flip=False,
    steps=400,
    arms=("plain", "plain again", "dt=1e-10", "s=0.1", "s=0.5", "s=1", "backward", "s=1/3", "every=3",
          "s=1 late", "rate-1.1", "rate-1.25", "rate-4/3", "rate-1.5", "rate-2", "rate-2 late", "heavy-ball",
          "double"),
    searched=("plain", "s=0.1", "s=0.5", "s=1", "every=3", "rate-1.5", "heavy-ball"),
    rates=RATE_GRID,
    batches=(16, 64, 256),
    seeds=tuple(range(10)),
    rows=20,
)  # fmt: skip

CIFAR = replace(
    PAPER,
    dataset="cifar10",
    stem="cifar",
    precision="bfloat16",
    pad=4,
    steps=7820,
    arms=("plain", "plain again", "dt=1e-10", "s=0.1", "s=0.5", "s=1", "s=1/3", "every=3", "s=1 late",
          "rate-1.1", "rate-1.25", "rate-4/3", "rate-1.5", "rate-2", "rate-2 late", "heavy-ball", "double"),
    searched=("plain", "s=0.5", "heavy-ball"),
    rates=RATE_GRID[2:9],
    rows=20,
)  # fmt: skip

# The source's images, batch and rate; the network, the pixels and the epochs are what a CPU has time
# for: five epochs, ten for `double`.
WOOF = replace(
    PAPER,
    dataset="imagewoof-64",
    model="resnet8",
    width=32,
    stem="stride2",
    pad=4,
    steps=560,
    arms=("plain", "plain again", "dt=1e-10", "s=0.5", "s=1", "s=1/3", "every=3", "s=1 late",
          "rate-4/3", "rate-1.5", "rate-2", "rate-2 late", "heavy-ball", "double"),
    searched=("plain", "s=0.5", "rate-1.5", "heavy-ball"),
    # 0.002 to 0.93: on CIFAR-10 plain SGD was best at 0.43, on digits heavy ball at 0.0093 by the
    # images held out, and each needs a neighbour on both sides.
    rates=RATE_GRID[:9],
    seeds=tuple(range(6)),
    batches=(16, 64),
    rows=10,
    curve_images=500,
    norm_batches=2,
)  # fmt: skip

PRESETS: dict[str, dict[str, Settings]] = {
    "smoke": {
        **TOYS_OF_FIGURES,
        "digits": replace(
            DIGITS,
            steps=40,
            arms=("plain", "plain again", "dt=1e-10", "s=0.5", "rate-1.5", "heavy-ball", "double"),
            searched=("plain", "s=0.5", "heavy-ball"),
            rates=RATE_GRID[3:6],
            batches=(16, 64),
            seeds=(0, 1),
            rows=4,
        ),
    },
    "cpu": {
        **ALL_TOYS,
        "digits": DIGITS,
        "cifar10": replace(
            CIFAR,
            model="resnet8",
            width=16,
            stem="stride2",
            steps=400,
            arms=("plain", "plain again", "dt=1e-10", "s=0.5", "rate-1.5", "heavy-ball", "double"),
            searched=("plain", "s=0.5"),
            rates=RATE_GRID[5:],  # 0.093 to 2: both are best between
            rows=4,
            curve_images=500,
            norm_batches=5,
        ),
    },
    "night": {"imagewoof-64": WOOF},
    "gpu": {
        "cifar10": CIFAR,
        "tiny-imagenet-10": replace(CIFAR, dataset="tiny-imagenet-10", stem="imagenet", steps=1560),
    },
    "paper": {"imagewoof": PAPER},
}

MODEL_NAMES = {"mlp": "a perceptron", "resnet8": "ResNet-8", "resnet18": "ResNet-18"}
OF_NETWORKS = ("dataset", "model", "width", "stem", "batch", "lr", "dt")
OF_TOYS = ("dataset", "lr", "dt", "steps", "start")


def tiny(settings: Settings) -> Settings:
    """The settings at a size at which every line runs once, for the network or function that they
    name.
    """
    if settings.dataset in TOYS:
        return replace(settings, steps=200, basin_starts=min(settings.basin_starts, 8))
    sizes = {"width": 4, "batch": 16, "steps": 8, "rows": 2, "curve_images": 64, "norm_batches": 1}
    small = {"model": "resnet8", "stem": "stride2"} if settings.model != "mlp" else {}
    seeds = {"seeds": settings.seeds[:2]}
    grid = {"rates": settings.rates[:3], "batches": settings.batches[:2]}
    return replace(settings, **seeds, **grid, **sizes, **small)


def setting(entry: str, settings: Mapping[str, object]) -> str:
    """ "the source's", or what stands in for it. settings: fields by name, as provenance keeps
    them.
    """
    dataset = settings["dataset"]
    reference = TOYS.get(dataset, PAPER)
    names = OF_TOYS if dataset in TOYS else OF_NETWORKS
    same = all(_plain(settings[name]) == getattr(reference, name) for name in names)
    if dataset == "quadratic" or same:
        return "the source's"
    return f"stand-in: {MODEL_NAMES[settings['model']] if dataset not in TOYS else 'other numbers'} on {dataset}"


def _plain(value: object) -> object:
    """A value as settings hold it; JSON knows no tuples."""
    return tuple(value) if isinstance(value, list) else value
