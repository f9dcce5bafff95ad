"""The picture of an ablation: each arm's scores, and what it changes."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polaris_train.ablation.contrast import Contrast
from polaris_train.ablation.table import Row

_COLOR, _SHADOW = "#4f81bd", "#b8b8b8"


def draw_ablation(rows: Sequence[Row]) -> Figure:
    """Draw three panels with a line for each arm: ``mean@k``, the difference to plain GRPO and to the arm before."""
    figure = Figure(figsize=(11, 1.4 + 0.42 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    titles = ("mean@k, percent", "to plain GRPO, points", "to the arm before, points")
    columns = ([row.mean for row in rows], [row.to_plain for row in rows], [row.to_before for row in rows])
    for axes, title, column in zip(panels, titles, columns, strict=True):
        _draw(axes, column)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[1:]:
        axes.axvline(0, color="#555", linewidth=0.8)
    panels[0].set_yticks(range(len(rows)), [row.arm.label for row in rows])
    panels[0].invert_yaxis()
    figure.supxlabel("95% intervals: thick over seeds, thin over seeds and problems; dots are seeds", fontsize=9)
    return figure


def _draw(axes: Axes, column: Sequence[Contrast | None]) -> None:
    for place, each in enumerate(column):
        if each is None:
            continue
        for interval, width, color in ((each.both, 1.0, _SHADOW), (each.seeds, 2.5, _COLOR)):
            if interval is not None:
                axes.plot([100 * end for end in interval], [place, place], color=color, linewidth=width)
        axes.plot([100 * each.value], [place], "o", color=_COLOR, markersize=7)
        axes.plot([100 * seed for seed in each.by_seed], [place] * len(each.by_seed), ".", color="#222", markersize=3)
