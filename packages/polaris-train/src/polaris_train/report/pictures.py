"""Pictures of a run as SVG text; small ones, so that letters can be read on a phone.

The same data give the same bytes. Letters and axes have the colour of the page's text, in its dark form too.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from polaris_data import Histogram
from polaris_data.view import draw_histograms, to_svg
from polaris_eval import Estimate
from polaris_rollout.temperature import draw_curves

SIZE = (5.0, 2.9)
"""Of every picture, in inches."""

_TEXT_COLORS = ("#000000", "#262626")
"""Black is what matplotlib writes letters, ticks and frames in; the page has its own."""

_SETTINGS: Any = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#888888",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
}

COLORS = ("#3b6fb6", "#c8702a", "#4c9f70", "#8064a2", "#b8454f", "#6b7680")
"""Of what is drawn, one after the other; readable on white and on black."""

_NUM_SMOOTHED = 60
"""Steps from which a mean over neighbours is drawn over the single values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value over steps."""

    place: float
    """On the axis of all steps."""

    value: float
    """Where it is drawn."""

    label: str
    """What is shown when it is pointed at."""

    interval: tuple[float, float] | None = None
    """How sure it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values that belong together."""

    name: str
    """Shown where there are several; may be empty."""

    points: Sequence[Point]
    """In their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What is marked on the axis of all steps."""

    stages: Mapping[str, tuple[float, float]]
    """Where each stage starts and ends."""

    chosen: Sequence[float] = ()
    """Steps whose checkpoint was chosen."""


def draw_panel(
    title: str,
    series: Sequence[Series],
    marks: Marks,
    *,
    level: float | None = None,
    percent: bool = False,
) -> str:
    """Draw values over the steps of all stages, one after another.

    Args:
        title: Over the panel.
        series: At least one with a point.
        marks: Stages and chosen checkpoints.
        level: At which an alarm rings.
        percent: Whether values are shares.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for number, each in enumerate(series):
            _draw_series(axes, each, COLORS[number % len(COLORS)])
        if level is not None:
            axes.axhline(level, color=COLORS[4], linewidth=0.9, linestyle=(0, (2, 2)))
        for number, (name, (start, end)) in enumerate(marks.stages.items()):
            if number % 2:
                axes.axvspan(start, end, color="#888888", alpha=0.09, linewidth=0)
            axes.annotate(
                name,
                ((start + end) / 2, 1),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=8,
                parse_math=False,
                alpha=0.75,
            )
        for place in marks.chosen:
            axes.axvline(place, color=COLORS[2], linewidth=1.1, linestyle="--")
        axes.set_title(title, pad=16, fontweight="bold")
        axes.margins(x=0.02)
        if marks.stages:  # All panels have the same axis, also those of what some stages do not have.
            places = [place for ends in marks.stages.values() for place in ends]
            room = 0.02 * (max(places) - min(places))
            axes.set_xlim(min(places) - room, max(places) + room)
        if percent:
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8, loc="best")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    points = [point for each in series for point in each.points]
    return _svg(draw, hover=points)


def draw_histogram(name: str, counts: Sequence[int], *, top: int | None = None) -> str:
    """Draw how many problems were solved how often, with the shape; ``top`` is the height of the axis."""

    def draw() -> Figure:
        figure = draw_histograms({name: Histogram(tuple(counts))})
        if top:
            figure.axes[0].set_ylim(0, 1.1 * top)
        return figure

    return _svg_of(draw, size=(5.0, 3.3))


def draw_temperature(name: str, report: Mapping[str, Any]) -> str:
    """Draw what a temperature search measured: zones, intervals and the choice."""

    def draw() -> Figure:
        figure = draw_curves(report)
        axes = figure.axes[0]
        axes.set_title(name, fontweight="bold")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=8, columnspacing=1.2
        )
        return figure

    return _svg_of(draw, size=(5.0, 4.0))


def draw_estimates(title: str, rows: Mapping[str, Mapping[str, Estimate]], *, zero: bool = False) -> str:
    """Draw values with their intervals, a row for each name and a colour for each model.

    Args:
        title: Over the picture.
        rows: By benchmark and model.
        zero: Whether they are differences, so that a line at 0 says what is beyond doubt.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        models = list(dict.fromkeys(model for row in rows.values() for model in row))
        for number, model in enumerate(models):
            own = [(place, row[model]) for place, row in enumerate(rows.values()) if model in row]
            values = [100 * estimate.value for _, estimate in own]
            errors = [
                [value - 100 * estimate.interval[0] for value, (_, estimate) in zip(values, own, strict=True)],
                [100 * estimate.interval[1] - value for value, (_, estimate) in zip(values, own, strict=True)],
            ]
            places = [place + 0.2 * (number - (len(models) - 1) / 2) for place, _ in own]
            color = COLORS[number % len(COLORS)]
            axes.errorbar(values, places, xerr=errors, fmt="o", color=color, markersize=5, capsize=3, label=model)
        axes.set_yticks(range(len(rows)), list(rows), parse_math=False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        if zero:
            axes.axvline(0, color="#888888", linewidth=1)
        axes.set_title(title, fontweight="bold")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False, fontsize=8, columnspacing=1.2
        )

    return _svg(draw, size=(5.0, 1.5 + 0.55 * len(rows)))


def _draw_series(axes: Axes, series: Series, color: str) -> None:
    places, values = [point.place for point in series.points], [point.value for point in series.points]
    sure = [point for point in series.points if point.interval]
    if sure:
        low, high = zip(*(point.interval for point in sure if point.interval), strict=True)
        axes.fill_between([point.place for point in sure], low, high, color=color, alpha=0.18, linewidth=0)
    many = len(values) >= _NUM_SMOOTHED
    style: Any = {"alpha": 0.35, "linewidth": 0.8} if many else {"marker": "o", "markersize": 3.2, "linewidth": 1.4}
    axes.plot(places, values, color=color, **style)
    if many:
        axes.plot(places, _smooth(values), color=color, linewidth=1.7)
    axes.lines[-1].set_label(series.name or "_")


def _smooth(values: Sequence[float], width: int = 5) -> list[float]:
    """Return the mean over the neighbours of each value, up to ``width`` on either side."""
    windows = (values[max(0, index - width) : index + width + 1] for index in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _svg(draw: Callable[[Figure], None], *, size: tuple[float, float] = SIZE, hover: Iterable[Point] = ()) -> str:
    def make() -> Figure:
        figure = Figure(layout="constrained")
        draw(figure)
        return figure

    return _svg_of(make, size=size, hover=hover)


def _svg_of(make: Callable[[], Figure], *, size: tuple[float, float], hover: Iterable[Point] = ()) -> str:
    with rc_context(_SETTINGS):
        figure = make()
        figure.set_size_inches(*size)
        svg = to_svg(figure)
    for color in _TEXT_COLORS:
        svg = svg.replace(color, "currentColor")
    # Letters without a colour of their own are black in any case; names of groups would repeat from picture to picture.
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", f"<svg {_hover_data(figure, hover)}", 1)


def _hover_data(figure: Figure, points: Iterable[Point]) -> str:
    """Return attributes that say which values are where, for the script of the page."""
    if not (points := list(points)):
        return ""
    axes, width = figure.axes[0], figure.bbox.width
    places = [axes.transData.transform((point.place, 0.0))[0] / width for point in points]
    content = json.dumps([[round(place, 4), point.label] for place, point in zip(places, points, strict=True)])
    return f'data-points="{escape(content)}" '
