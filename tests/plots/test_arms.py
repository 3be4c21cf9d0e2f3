"""An arm looks alike in every figure, and unlike those that it is drawn with, for whoever sees few
colours too; a line is named at its end.
"""

import itertools

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt

from replicate.app import registry
from replicate.plots import across, arms
from replicate.plots.style import NAME_HEIGHT, name_lines

# Machado, Oliveira and Fernandes 2009: linear RGB as it is seen without one kind of cones.
SEEN_WITHOUT = {
    "none missing": np.eye(3),
    "long": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "middle": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ.sum(axis=1)
CLOSEST = 10  # Delta E of 1976; from 2.3 on people see a difference side by side
DRAWN_TOGETHER = {
    "zhang2019lookahead": (
        "decomposition",
        "table_1",
        "robustness",
        "language_model",
        "translation",
    ),
    "warmerdam2020descent": ("figure_9", "rates"),
}
FAMILIES = across.FAMILIES | {
    f"the task's {name}": arms for name, arms in across.CONTENDING.items()
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def lab(colour, cones: str) -> np.ndarray:
    """L*a*b* of a colour as it is seen."""
    rgb = np.array(colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(
        np.clip(TO_XYZ @ np.clip(SEEN_WITHOUT[cones] @ linear, 0, 1) / WHITE, 0.009, None)
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def are_apart(first: tuple, second: tuple, cones: str) -> bool:
    """Whether two looks differ in dashes, or in colours that are seen as two."""
    distance = np.linalg.norm(lab(first[0], cones) - lab(second[0], cones))
    return first[1] != second[1] or distance >= CLOSEST


def list_alike(drawn, cones: str) -> list[tuple]:
    """Pairs of arms that cannot be told apart."""
    return [
        pair
        for pair in itertools.combinations(drawn, 2)
        if not are_apart(*(arms.ARM_LOOKS[arm] for arm in pair), cones)
    ]


@pytest.mark.parametrize("cones", SEEN_WITHOUT)
@pytest.mark.parametrize(("source", "name"), [(s, name) for s, names in DRAWN_TOGETHER.items() for name in names])  # fmt: skip
def test_arms_that_are_drawn_together_look_unlike(source, name, cones):
    table = registry.read_largest(registry.source(source), name, "smoke")
    drawn = [arm for arm in table.arm.unique() if arm in arms.ARM_LOOKS]
    assert len(drawn) >= 3
    assert list_alike(drawn, cones) == []


@pytest.mark.parametrize("cones", SEEN_WITHOUT)
@pytest.mark.parametrize("family", FAMILIES)
def test_methods_of_a_panel_look_unlike(family, cones):
    assert list_alike(FAMILIES[family], cones) == []


def test_red_and_green_of_one_brightness_would_be_taken_for_one():
    red, green = ("#b05a00", ""), ("#6f8000", "")
    assert are_apart(red, green, "none missing") and not are_apart(red, green, "middle")
    assert are_apart(red, (green[0], (4, 2)), "middle")


def test_looks_are_what_seaborn_takes_and_an_unknown_arm_is_grey():
    looks = arms.list_looks(["lookahead-ema", "somebody's"])
    assert looks["palette"] == {"lookahead-ema": arms.GREEN, "somebody's": arms.GREY}
    assert looks["dashes"] == {"lookahead-ema": (4, 2), "somebody's": ""}


def test_a_kind_of_method_has_one_colour_in_every_source():
    colour = {arm: look[0] for arm, look in arms.ARM_LOOKS.items()}
    assert colour["sgd"] == colour["plain"] == colour["SGD"]
    assert colour["adam"] == colour["Adam"] == colour["ADAM"]
    assert colour["heavy-ball"] == colour["momentum"]
    assert colour["s=0.5"] == colour["extrapolation, first order"]
    assert colour["lookahead"] == colour["Lookahead"]
    assert colour["sgd-ema"] == colour["average, ema"]
    assert colour["KS_50_2 corrected"] == colour["KeepStepping"]
    assert colour["KV_50 published"] == colour["KeepVaulting"]


def test_a_line_has_the_look_of_its_arm_and_an_unknown_arm_is_refused():
    _, ax = plt.subplots()
    (line,) = ax.plot([0, 1], **arms.style_line("KS_50_2 published"))
    assert line.get_color() == arms.WALK and line.is_dashed()
    (line,) = ax.plot([0, 1], **arms.style_line("KS_50_2 corrected"))
    assert line.get_linestyle() == "-"
    with pytest.raises(KeyError, match="somebody"):
        arms.style_line("somebody's")


def name_heights(ends, scale: str = "linear", names=()) -> dict[str, float]:
    """Name -> its height in the axes, of lines from (0, 1) to these ends."""
    _, ax = plt.subplots()
    for place, end in enumerate(ends):
        ax.plot([0, 1], [1, end], label="_hidden" if names else f"line {place}")
    ax.set(yscale=scale, ylim=(1, 100))
    name_lines(ax, names)
    return {text.get_text(): text.get_position()[1] for text in ax.texts}


@pytest.mark.parametrize(("scale", "height"), [("linear", 9 / 99), ("log", 0.5)])
def test_a_name_stands_where_its_line_ends(scale, height):
    assert name_heights([10.0], scale)["line 0"] == pytest.approx(height)


def test_names_of_close_ends_are_moved_apart_and_keep_their_order():
    heights = name_heights([50.0, 50.5, 50.2, 90.0])
    close = [heights[f"line {place}"] for place in (0, 2, 1)]
    assert np.diff(close).min() >= NAME_HEIGHT - 1e-6
    assert np.mean(close) == pytest.approx((50.2 - 1) / 99, abs=5e-3)
    assert heights["line 3"] == pytest.approx(89 / 99)


def test_names_that_are_given_go_to_the_lines_in_their_order():
    assert set(name_heights([10.0, 20.0], names=["first", "second"])) == {"first", "second"}
    heights = name_heights([10.0, 90.0], names=["first", "second"])
    assert heights["first"] < heights["second"]
