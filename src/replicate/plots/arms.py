"""How an arm looks, in every figure alike: the colour says what kind of method it is, the dashes which
of its kind. The colours are seaborn's "colorblind".
"""

from collections.abc import Iterable

import seaborn as sns

BLUE, ORANGE, GREEN, RED, PURPLE = sns.color_palette("colorblind", 5)
SKY = sns.color_palette("colorblind", 10)[9]
GREY = "0.45"

SGD, OTHER_RATE, HEAVY_BALL, EXTRAPOLATION = GREY, SKY, BLUE, ORANGE
LOOKAHEAD, MEAN, ADAM = GREEN, PURPLE, "black"
WALK, VAULT = RED, "#c51b8a"
SOLID, DASHED, DOTTED, MIXED = "", (4, 2), (1, 1), (4, 1, 1, 1)

# Walk of the descent's source -> shade: reds and browns step, pinks vault.
WALK_SHADES = {
    "KS_50_2": WALK,
    "KS_50_0": "#f0a860",
    "KS_10_0": "#a87838",
    "KS_10_2": "#6a2408",
    "KV_50": VAULT,
    "KV_10": "#fbafe4",
}
CODES = {"published": DASHED, "corrected": SOLID, "rollback": DOTTED}

# Arm -> colour and dashes: Lookahead's, on images and on texts; the extrapolation's; the descent's;
# those of the view across all sources.
ARM_LOOKS = {
    "sgd": (SGD, SOLID),
    "sgd-ema": (MEAN, SOLID),
    "tail": (MEAN, DASHED),
    "sgd-alpha": (OTHER_RATE, SOLID),
    "lookahead": (LOOKAHEAD, SOLID),
    "lookahead-ema": (LOOKAHEAD, DASHED),
    "lookahead-tail": (LOOKAHEAD, DOTTED),
    "schedule-free": (MEAN, DOTTED),
    "outer-nesterov": (HEAVY_BALL, SOLID),
    "adamw": (ADAM, SOLID),
    "adam": (ADAM, SOLID),
    "adam-warmup": (ADAM, DASHED),
    "lookahead-sgd": (LOOKAHEAD, SOLID),
    "lookahead-adam": (LOOKAHEAD, DASHED),
    "lookahead-warmup": (LOOKAHEAD, MIXED),
    "adafactor-warmup": (RED, DOTTED),
    "asgd": (MEAN, MIXED),
    "plain": (SGD, SOLID),
    "s=0.5": (EXTRAPOLATION, SOLID),
    "rate-1.5": (OTHER_RATE, DASHED),
    "heavy-ball": (HEAVY_BALL, SOLID),
    "SGD": (SGD, SOLID),
    "ADAM": (ADAM, SOLID),
    "ARMIJO": ("#e8d400", SOLID),
    "EXACT": ("navy", SOLID),
    "LBFGS": ("#00b3a0", SOLID),
    "momentum": (HEAVY_BALL, SOLID),
    "Nesterov": (HEAVY_BALL, DASHED),
    "momentum, average, swa": (HEAVY_BALL, DOTTED),
    "momentum, average, ema": (HEAVY_BALL, MIXED),
    "extrapolation, first order": (EXTRAPOLATION, SOLID),
    "extrapolation, second order": (EXTRAPOLATION, DASHED),
    "extrapolation, third order": (EXTRAPOLATION, DOTTED),
    "Lookahead": (LOOKAHEAD, SOLID),
    "Lookahead, momentum, maintain": (LOOKAHEAD, DASHED),
    "Lookahead, momentum, reset": (LOOKAHEAD, DOTTED),
    "Lookahead, momentum, interpolate": (LOOKAHEAD, MIXED),
    "average, ema": (MEAN, SOLID),
    "average, swa": (MEAN, DASHED),
    "average, two-point": (MEAN, DOTTED),
    "running mean": (MEAN, MIXED),
    "SGD, falling rate": (OTHER_RATE, SOLID),
    "Adam": (ADAM, SOLID),
    "KeepStepping": (WALK, SOLID),
    "KeepVaulting": (VAULT, SOLID),
} | {f"{walk} {code}": (colour, dashes) for walk, colour in WALK_SHADES.items() for code, dashes in CODES.items()}  # fmt: skip


def list_looks(arms: Iterable[str]) -> dict[str, dict]:
    """`palette` and `dashes` of some arms, as seaborn takes them; what is not in ARM_LOOKS is grey."""
    looks = {arm: ARM_LOOKS.get(arm, (SGD, SOLID)) for arm in arms}
    return {
        "palette": {arm: colour for arm, (colour, _) in looks.items()},
        "dashes": {arm: dashes for arm, (_, dashes) in looks.items()},
    }


def style_line(arm: str) -> dict:
    """`color` and `linestyle` of an arm's line, as matplotlib takes them.

    Raises KeyError if the arm is not in ARM_LOOKS.
    """
    colour, dashes = ARM_LOOKS[arm]
    return {"color": colour, "linestyle": (0, dashes) if dashes else "-"}
