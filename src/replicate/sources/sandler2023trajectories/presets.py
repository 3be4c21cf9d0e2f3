"""The paper's settings and what each preset changes in them."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace

from replicate.sources.sandler2023trajectories._batch_settings import BatchSettings
from replicate.sources.sandler2023trajectories.settings import Settings

PAPER = Settings()

ALGEBRA = {"quadratic": replace(PAPER, dataset="quadratic", ema=(10, 100, 1000), controls=())}

# A net this small learns clean digits to zero loss, where an average has nothing to gain: so labels
# and pixels are drawn anew at every step, which puts a floor under the loss.
DIGITS = replace(
    PAPER,
    dataset="digits",
    model="mlp",
    width=96,
    batch=64,
    lr=0.02,
    weight_decay=0.0,
    warmup=0,
    flip=False,
    pixel_noise=0.25,
    label_noise=0.1,
    seeds=tuple(range(24)),  # what SWA and two points need at k = 100, by the spread of 8 seeds
    first_branch=6000,
    branches=4,
    branch_every=3000,
    two_point=(10, 100, 1000, 3000),
    swa=(10, 100, 1000, 3000),
    ema=(10, 100, 1000, 3000),
    controls=(100, 1000, 3000),
    last_windows=(100, 200, 300, 500, 700, 1000),
    train_images=16_384,
    noisy_draws=True,
    norm_batches=1,
    norm_batch=64,
    directions=60,
)

CIFAR = replace(
    PAPER,
    dataset="cifar10",
    model="resnet18",
    stem="cifar",
    precision="bfloat16",
    batch=128,
    weight_decay=5e-4,
    warmup=1950,  # 5 epochs
    pad=4,
    seeds=(0, 1),
    first_branch=8000,
    branches=8,
    branch_every=3000,
    two_point=(10, 100, 1000, 3000),
    swa=(10, 100, 1000, 3000),
    ema=(10, 100, 1000, 3000),
    controls=(100, 1000),
    last_windows=(100, 200, 300, 500, 700, 1000),
    train_images=5000,
    norm_batches=20,
    norm_batch=256,
)

SMALL = {"seeds": (0, 1), "first_branch": 120, "branches": 2, "branch_every": 100, "two_point": (10, 100),
       "swa": (10, 100), "ema": (10, 100), "controls": (100,), "last_windows": (50, 100), "train_images": 2048,
       "directions": 8, "hessian_images": 512, "noise_gradients": 50}  # fmt: skip

# Simulated runs of the quadratic model; ours, the paper reports no repeats.
QUADRATIC = replace(ALGEBRA["quadratic"], seeds=tuple(range(8)))


def _windows(*steps: int) -> dict[str, tuple[int, ...]]:
    """The same windows for every kernel."""
    return dict.fromkeys(("two_point", "swa", "ema"), steps)


# What a CPU has time for: ten epochs at the constant rate, then one window for each seed.
NIGHT = replace(
    CIFAR,
    model="resnet8",
    width=32,
    stem="stride2",
    warmup=390,  # 1 epoch
    seeds=tuple(range(8)),
    first_branch=3910,
    branches=1,
    branch_every=1000,
    **_windows(100, 1000),
    controls=(1000,),
    last_windows=(),
)

CPU_LADDER = replace(
    CIFAR,
    model="resnet8",
    width=16,
    stem="stride2",
    seeds=(0, 1, 2, 3, 4),
    warmup=200,
    first_branch=1600,
    branches=3,
    branch_every=300,
    two_point=(10, 100, 300),
    swa=(10, 100, 300),
    ema=(10, 100, 300),
    controls=(10, 100),
    last_windows=(),
)
NIGHT_LADDER = replace(
    NIGHT, seeds=tuple(range(16)), branches=2, controls=(100, 300), **_windows(10, 100, 300)
)


def _on_batches(main: Settings, **settings) -> BatchSettings:
    """What is measured on fixed mini-batches at stages of a main run; eight seeds at most."""
    shared = {field.name: getattr(main, field.name) for field in fields(main)}
    return BatchSettings(**shared | {"seeds": main.seeds[:8]} | settings)


# Held-out batches have the size that the run trains with; what a step costs sets how many there are.
BATCHES_SMOKE = {"early": (20,), "batch_sizes": (16, 64, 256), "draws": 2, "held_batches": 6, "held_batch": 64,
                 "held_out": 384, "even_steps": 8, "small_steps": 5, "step_gradients": 50, "products": 2,
                 "curvature_batches": 8, "trips": 1, "estimated": 0}  # fmt: skip
BATCHES_DIGITS = BATCHES_SMOKE | {"early": (100,), "batch_sizes": (16, 64, 256, 1024), "draws": 8, "held_batches": 12,
                                  "even_steps": 12, "small_steps": 8, "step_gradients": 400, "products": 8,
                                  "trips": 8}  # fmt: skip
BATCHES_SHORT = {"early": (100,), "batch_sizes": (16, 128, 1024), "draws": 2, "draw_images": 1024, "held_batches": 3,
                 "held_batch": 128, "held_out": 384, "even_steps": 8, "small_steps": 4, "step_gradients": 48,
                 "products": 2, "curvature_batches": 2, "trips": 2, "estimated": 1, "estimate_batches": 4}  # fmt: skip
BATCHES_LONG = {"early": (100, 1000), "batch_sizes": (16, 128, 512, 2048, 8192, 32_768), "draws": 10,
                "draw_images": 8192, "held_batch": 128, "held_out": 1280, "even_steps": 12, "small_steps": 7,
                "step_gradients": 300, "products": 6, "curvature_batches": 4, "trips": 6}  # fmt: skip
BATCHES_GPU = {"early": (100, 1000), "held_batch": 128, "held_out": 1280, "step_gradients": 1000}

PRESETS: dict[str, dict[str, Settings]] = {
    "smoke": {
        "digits": replace(DIGITS, **SMALL),
        "quadratic": replace(QUADRATIC, seeds=(0,)),
        "digits-batches": _on_batches(replace(DIGITS, **SMALL), **BATCHES_SMOKE),
    },
    "cpu": {
        "quadratic": QUADRATIC,
        "digits": DIGITS,
        "cifar10": CPU_LADDER,
        "digits-batches": _on_batches(DIGITS, **BATCHES_DIGITS),
        "cifar10-batches": _on_batches(CPU_LADDER, **BATCHES_SHORT),
    },
    "night": {
        "cifar10": NIGHT_LADDER,
        "cifar10-1000": replace(
            NIGHT,
            **_windows(10, 100, 300, 1000),
            last_windows=(100, 200, 300, 500, 700, 1000),
            directions=40,  # fewer than on digits: a product costs 7 gradients
            hessian_images=1024,
            noise_gradients=200,
        ),
        "cifar100": replace(NIGHT, dataset="cifar100"),
        "cifar10-batches": _on_batches(NIGHT_LADDER, seeds=(0, 1, 2, 3, 4), **BATCHES_LONG),
    },
    "gpu": {
        "cifar10": CIFAR,
        "cifar10-resnet34": replace(CIFAR, model="resnet34", seeds=(0,)),
        "cifar100": replace(CIFAR, dataset="cifar100"),
        "cifar10-batches": _on_batches(CIFAR, seeds=(0, 1, 2, 3, 4), **BATCHES_GPU),
    },
    "paper": {
        "imagenet": PAPER,
        # Figs. 2 and 3: steps 75 000 and 85 000
        "imagenet-batches": _on_batches(
            PAPER, first_branch=75_000, branches=2, branch_every=10_000, seeds=(0, 1, 2, 3, 4)
        ),
    },
}

MODEL_NAMES = {
    "mlp": "a perceptron",
    "resnet8": "ResNet-8",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
}
TINY_BATCHES = {"early": (2,), "batch_sizes": (8, 32), "draws": 2, "held_batches": 4, "held_batch": 16, "held_out": 32,
                "even_steps": 4, "small_steps": 3, "step_gradients": 3, "products": 2, "curvature_batches": 2,
                "trips": 1, "estimated": 1, "estimate_batches": 2}  # fmt: skip
OF_THE_SOURCE = (
    "dataset",
    "model",
    "width",
    "stem",
    "batch",
    "lr",
    "momentum",
    "pixel_noise",
    "label_noise",
)


def tiny(settings: Settings) -> Settings:
    """The settings at a size at which every line runs once, for the network and data set that they
    name.
    """
    steps = {"first_branch": 6, "branch_every": 6, "two_point": (2, 6), "swa": (2, 6), "ema": (2, 6), "controls": (2,),
             "last_windows": (2, 6), "warmup": 2}  # fmt: skip
    sizes = {
        # torch 2.13 on a CPU ends in a segmentation fault in the gradient of a shortcut of 8 channels
        # at 112 x 112 places, and of fewer.
        "width": 16 if settings.dataset == "imagenet" else 4,
        "batch": 16,
        "train_images": 64,
        "norm_batches": 1,
        "norm_batch": 32,
        "directions": min(settings.directions, 2),
        "hessian_images": 32,
        "noise_gradients": 3,
    }
    small = {"model": "resnet8", "stem": "stride2"} if settings.model != "mlp" else {}
    batches = TINY_BATCHES if isinstance(settings, BatchSettings) else {}
    return replace(settings, seeds=(0,), branches=2, **steps, **sizes, **small, **batches)


def setting(entry: str, settings: Mapping[str, object]) -> str:
    """ "the source's", or what stands in for it. settings: fields by name, as provenance keeps
    them.
    """
    paper = asdict(PAPER)
    if settings["dataset"] == "quadratic" or all(
        settings[name] == paper[name] for name in OF_THE_SOURCE
    ):
        return "the source's"
    return f"stand-in: {MODEL_NAMES[settings['model']]} on {settings['dataset']}"
