"""Difficulty histograms as pictures: PNG files, and SVG text that a page can hold.

The same data give the same bytes: no date, no random ids.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polaris_data.files.journal import whole_file
from polaris_data.profile.lengths import AnswerLengths
from polaris_data.profile.shape import Histogram

_NEVER, _SOMETIMES, _ALWAYS = "#c0504d", "#4f81bd", "#9bbb59"

_REPRODUCIBLE: Any = {"svg.hashsalt": "polaris", "svg.fonttype": "none", "font.family": "sans-serif"}

_NUM_LABELS = 17
"""Bins that are all named under the axis; of more only every second, third, ... is."""


def draw_histograms(histograms: Mapping[str, Histogram]) -> Figure:
    """Draw named histograms side by side at one scale, each with its shape, size and shares."""
    figure = Figure(figsize=(5 * len(histograms), 3.8), layout="constrained")
    axes = figure.subplots(1, len(histograms), sharey=True, squeeze=False)[0]
    for panel, (name, histogram) in zip(axes, histograms.items(), strict=True):
        _draw(panel, name, histogram)
    axes[0].set_ylabel("problems")
    return figure


def draw_profile(name: str, histogram: Histogram, lengths: AnswerLengths) -> Figure:
    """Draw the histogram of a profile, and its answers by length beside it."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, name, histogram)
    left.set_ylabel("problems")
    width = lengths.width
    edges = [number * width for number in range(len(lengths.every))]
    series = ((lengths.every, "all", "#c9d3e0"), (lengths.correct, "correct", _ALWAYS))
    for counts, label, color in (*series, (lengths.truncated, "truncated", _NEVER)):
        share = 0.45 if label == "truncated" else 0.95
        right.bar(edges, counts, width=share * width, align="edge", label=label, color=color)
    right.set(xlabel="tokens", ylabel="answers", title=f"answers by length, median {lengths.median:,}")
    right.title.set_fontsize(10)
    right.legend(frameon=False, fontsize=8)
    right.spines[["top", "right"]].set_visible(False)
    return figure


def draw_shift(histograms: Mapping[str, Histogram], transitions: Sequence[Sequence[int]]) -> Figure:
    """Draw two histograms and how many problems moved from each bin of the first (row) to each of the second."""
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[1].sharey(axes[0])
    for panel, (name, histogram) in zip(axes[:2], histograms.items(), strict=True):
        _draw(panel, name, histogram)
    axes[0].set_ylabel("problems")
    shares = [[count / max(sum(row), 1) for count in row] for row in transitions]
    image = axes[2].imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="lower", aspect="auto")
    first, second = histograms
    axes[2].set(xlabel=f"solved in {second}", ylabel=f"solved in {first}", title="where each bin went")
    _label_bins(axes[2], len(transitions[0]))
    _label_bins(axes[2], len(transitions), vertical=True)
    figure.colorbar(image, ax=axes[2], label="share of the row")
    return figure


def write_png(path: Path, figure: Figure) -> None:
    """Write a picture; the file appears whole."""
    with whole_file(path) as temporary, rc_context(_REPRODUCIBLE):
        figure.savefig(temporary, format="png", dpi=130)


def to_svg(figure: Figure) -> str:
    """Return a picture as an ``<svg>`` element that can stand inside a page."""
    buffer = io.StringIO()
    with rc_context(_REPRODUCIBLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().partition("<svg")[1] + buffer.getvalue().partition("<svg")[2]


def _draw(axes: Axes, name: str, histogram: Histogram) -> None:
    n = len(histogram.counts) - 1
    bars: Any = axes.bar(range(n + 1), histogram.counts, color=[_NEVER, *[_SOMETIMES] * (n - 1), _ALWAYS], width=0.85)
    if n < _NUM_LABELS:
        axes.bar_label(bars, labels=[f"{count:,}" for count in histogram.counts], fontsize=7, padding=1)
    _label_bins(axes, n + 1)
    never, sometimes, always = histogram.shares
    axes.set_title(
        f"{name}: {histogram.num_problems:,} problems, {histogram.shape}\n"
        f"never {never:.1%}, sometimes {sometimes:.1%}, always {always:.1%}",
        fontsize=10,
    )
    axes.set_xlabel("solved")
    axes.margins(y=0.08)
    axes.spines[["top", "right"]].set_visible(False)


def _label_bins(axes: Axes, num_bins: int, *, vertical: bool = False) -> None:
    n, step = num_bins - 1, (num_bins - 1) // _NUM_LABELS + 1
    ticks = range(0, num_bins, step)
    (axes.set_yticks if vertical else axes.set_xticks)(list(ticks), [f"{k}/{n}" for k in ticks], fontsize=8)
