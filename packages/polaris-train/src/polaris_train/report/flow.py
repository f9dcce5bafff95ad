"""The picture of a recipe: its steps as boxes, with what came of each; as wide as a desk, or as narrow as a phone."""

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from polaris_train.report.steps import RecipeStep

_BOX = (196, 58)
"""Width and height of a box."""

_GAP = (38, 30)
"""Room for an arrow beside and below a box."""

_WIDE, _NARROW = 5, 2
"""Boxes in a row."""

_NUM_CHARS = 25
"""Characters of a line in a box."""


def recipe_picture(steps: Sequence[RecipeStep]) -> str:
    """Return the picture as HTML: two drawings, of which the page shows the one that fits."""
    return f'<div class="flow wide">{_draw(steps, _WIDE)}</div><div class="flow narrow">{_draw(steps, _NARROW)}</div>'


def _draw(steps: Sequence[RecipeStep], num_columns: int) -> str:
    width = num_columns * (_BOX[0] + _GAP[0]) - _GAP[0] + 4
    height = -(-len(steps) // num_columns) * (_BOX[1] + _GAP[1]) - _GAP[1] + 4
    shapes = "\n".join(_shapes(steps, num_columns))
    return (
        f'<svg viewBox="-2 -2 {width} {height}" role="img" aria-label="The steps of the recipe and their results">\n'
        f"{shapes}\n</svg>"
    )


def _shapes(steps: Sequence[RecipeStep], num_columns: int) -> Iterator[str]:
    places = [_place(number, num_columns) for number in range(len(steps))]
    for (left, top), (next_left, next_top) in pairwise(places):
        yield _arrow(left, top, next_left, next_top)
    for step, (left, top) in zip(steps, places, strict=True):
        result = step.result or {"open": "not yet", "skipped": "left out"}.get(step.state, step.state)
        yield (
            f'<g class="box {step.state}"><title>{escape(step.sentence)}</title>'
            f'<rect x="{left}" y="{top}" width="{_BOX[0]}" height="{_BOX[1]}" rx="9"/>'
            f'<text x="{left + 14}" y="{top + 23}">{escape(_short(step.name))}</text>'
            f'<text class="result" x="{left + 14}" y="{top + 44}">{escape(_short(result))}</text></g>'
        )


def _place(number: int, num_columns: int) -> tuple[int, int]:
    """Return the corner of a box; every second row runs back, so that each arrow goes to a neighbour."""
    row, column = divmod(number, num_columns)
    if row % 2:
        column = num_columns - 1 - column
    return column * (_BOX[0] + _GAP[0]), row * (_BOX[1] + _GAP[1])


def _arrow(left: int, top: int, next_left: int, next_top: int) -> str:
    middle = top + _BOX[1] // 2
    if next_top > top:
        x, start, end = left + _BOX[0] // 2, top + _BOX[1] + 3, next_top - 4
        return f'<path class="arrow" d="M{x} {start}V{end}m-5 -7l5 7l5 -7"/>'
    if next_left > left:
        return f'<path class="arrow" d="M{left + _BOX[0] + 3} {middle}H{next_left - 4}m-7 -5l7 5l-7 5"/>'
    return f'<path class="arrow" d="M{left - 3} {middle}H{next_left + _BOX[0] + 4}m7 -5l-7 5l7 5"/>'


def _short(text: str) -> str:
    return textwrap.shorten(text, _NUM_CHARS, placeholder="…") if len(text) > _NUM_CHARS else text
