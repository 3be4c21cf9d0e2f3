"""A row's interval beside its band, as a picture within the page: its colours are those of the page's text."""

import html
import math

PICTURE_WIDTH, PICTURE_HEIGHT = 320, 46  # units of the picture; a phone shows 360 of them
PICTURE_EDGE = 14  # left and right of the scale, where what lies beyond it is an arrow
AXIS_HEIGHT = 22  # height of the line on which value and band lie
FAR_SPANS = (
    3.0  # how many spans of value, interval and band a control may lie away before it is an arrow
)


def draw(row) -> str:
    """The picture of one row as SVG; "" where it has no value."""
    if not math.isfinite(row.value):
        return ""
    place = _scale(row)
    low, high = (row.low, row.high) if row.low <= row.high else (row.value, row.value)
    parts = [
        _box(place(row.at_least), place(row.at_most)),
        f'<line class="whole" x1="{PICTURE_EDGE}" y1="{AXIS_HEIGHT}" x2="{PICTURE_WIDTH - PICTURE_EDGE}" y2="{AXIS_HEIGHT}"/>',
        f'<line class="interval" x1="{place(low)}" y1="{AXIS_HEIGHT}" x2="{place(high)}" y2="{AXIS_HEIGHT}"/>',
        f'<circle cx="{place(row.value)}" cy="{AXIS_HEIGHT}" r="4"/>',
    ]
    if math.isfinite(row.control_value):
        x = place(row.control_value)
        parts.append(f'<path class="control" d="M{x - 5} {AXIS_HEIGHT}l5 -6 5 6 -5 6z"/>')
    parts += _numbers(row, place)
    said = html.escape(describe(row))
    return (
        f'<svg class="interval" viewBox="0 0 {PICTURE_WIDTH} {PICTURE_HEIGHT}" role="img" aria-label="{said}">'
        f"<title>{said}</title>{''.join(parts)}</svg>"
    )


def describe(row) -> str:
    """What the picture shows, in words."""
    ends = "" if row.low == row.high else f", interval from {row.low:.3g} to {row.high:.3g}"
    control = (
        f"; the control at {row.control_value:.3g}" if math.isfinite(row.control_value) else ""
    )
    return f"Value {row.value:.3g}{ends}; band {_band(row)}{control}."


def _band(row) -> str:
    if not math.isfinite(row.at_most):
        return f"from {row.at_least:.3g} upwards"
    if not math.isfinite(row.at_least):
        return f"up to {row.at_most:.3g}"
    return f"from {row.at_least:.3g} to {row.at_most:.3g}"


def _scale(row):
    """number -> x: linear over value, interval and band, and over the control unless it lies far away; ends beyond it
    at the picture's edges.
    """
    numbers = [
        x for x in (row.value, row.low, row.high, row.at_least, row.at_most) if math.isfinite(x)
    ]
    span = max(numbers) - min(numbers) or abs(row.value) or 1.0
    control = row.control_value
    if (
        math.isfinite(control)
        and min(numbers) - FAR_SPANS * span <= control <= max(numbers) + FAR_SPANS * span
    ):
        numbers.append(control)
    start, end = min(numbers), max(numbers)
    span = end - start or abs(row.value) or 1.0
    start, span = start - 0.1 * span, 1.2 * span

    def place(number: float) -> float:
        share = (number - start) / span if math.isfinite(number) else math.copysign(2, number)
        return round(
            min(
                max(PICTURE_EDGE + share * (PICTURE_WIDTH - 2 * PICTURE_EDGE), 2), PICTURE_WIDTH - 2
            ),
            1,
        )

    return place


def _box(left: float, right: float) -> str:
    """The band; one that is a single number is still seen."""
    return f'<rect class="band" x="{left}" y="{AXIS_HEIGHT - 10}" width="{max(right - left, 1.5):.1f}" height="20"/>'


def _numbers(row, place) -> list[str]:
    """The ends of the band, below it."""
    ends = [x for x in dict.fromkeys((row.at_least, row.at_most)) if math.isfinite(x)]
    return [
        f'<text x="{place(x)}" y="{PICTURE_HEIGHT - 2}" text-anchor="middle">{x:.3g}</text>'
        for x in ends
    ]
