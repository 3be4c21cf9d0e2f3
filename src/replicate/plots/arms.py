"""How an arm looks, in every figure alike: the colour says what kind of method it is, the dashes which
of its kind. The colours are seaborn's "colorblind".
"""

from collections.abc import Iterable

import seaborn as sns

BLUE, ORANGE, GREEN, RED, PURPLE = sns.color_palette("colorblind", 5)
SKY = sns.color_palette("colorblind", 10)[9]
GREY = "0.45"

SGD, OTHER_RATE, HEAVY_BALL, EXTRAPOLATION = GREY, SKY, BLUE, ORANGE
LOOKAHEAD, MEAN, ADAM, WALK = GREEN, PURPLE, "black", RED
SOLID, DASHED, DOTTED, MIXED = "", (4, 2), (1, 1), (4, 1, 1, 1)

# Arm -> colour and dashes. Of Lookahead's source, of images and of texts, and of the extrapolation's.
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
}


def list_looks(arms: Iterable[str]) -> dict[str, dict]:
    """`palette` and `dashes` of some arms, as seaborn takes them; what is not in ARM_LOOKS is grey."""
    looks = {arm: ARM_LOOKS.get(arm, (SGD, SOLID)) for arm in arms}
    return {
        "palette": {arm: colour for arm, (colour, _) in looks.items()},
        "dashes": {arm: dashes for arm, (_, dashes) in looks.items()},
    }
