"""Pictures of evaluations: scores, accuracy by length, the budget curve.

`polaris_data.view.plots.to_svg` makes text of them that a page can hold; the same data give the same bytes.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polaris_eval.records import Evaluation, Score
from polaris_eval.report.tables import length_range

_WIDTH = 11.0
"""Of every picture, in inches, so that all have letters of one size in a page."""


def draw_scores(evaluations: Sequence[Evaluation]) -> Figure:
    """Draw mean@k of each benchmark with its clustered interval, beside pass@k and maj@k at the largest k."""
    figure = Figure(figsize=(_WIDTH, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, (metric, color) in enumerate((("mean@k", "#0072b2"), ("pass@k", "#56b4e9"), ("maj@k", "#e69f00"))):
        scores = [_largest(evaluation, metric) for evaluation in evaluations]
        places = [place + 0.27 * (number - 1) for place in range(len(scores))]
        _bars(axes, places, scores, label=metric, color=color)
    axes.set_xticks(range(len(evaluations)), [_title(each) for each in evaluations], parse_math=False)
    axes.set(ylim=(0, 112), ylabel="percent", xlim=(-0.6, len(evaluations) - 0.4))
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return _plain(figure)


def draw_length_groups(evaluations: Sequence[Evaluation]) -> Figure | None:
    """Draw the accuracy of completions by length, with the size of each group; ``None`` if no length is known."""
    known = [evaluation for evaluation in evaluations if evaluation.length_groups]
    if not known:
        return None
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    for axes, evaluation in zip(_panels(figure, len(known)), known, strict=True):
        groups = evaluation.length_groups
        bars: Any = axes.bar(range(len(groups)), [100 * group.accuracy for group in groups], color="#0072b2", width=0.6)
        axes.bar_label(bars, [f"{100 * group.accuracy:.1f}\n{group.num_completions:,}" for group in groups], fontsize=8)
        axes.set_xticks(
            range(len(groups)), [length_range(group).replace(" to ", "\nto ") for group in groups], fontsize=8
        )
        axes.set_title(evaluation.benchmark, fontsize=10, parse_math=False)
        axes.set(ylim=(0, 118), xlabel="tokens", ylabel="correct, percent; number of completions")
    return _plain(figure)


def draw_budgets(evaluations: Sequence[Evaluation]) -> Figure | None:
    """Draw ``mean@k`` over the token budget; ``None`` if no completion was graded at one."""
    known = [evaluation for evaluation in evaluations if evaluation.budgets]
    if not known:
        return None
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, evaluation in enumerate(known):
        budgets = [point.max_tokens for point in evaluation.budgets]
        values = [100 * point.accuracy.value for point in evaluation.budgets]
        low, high = zip(*(point.accuracy.interval for point in evaluation.budgets), strict=True)
        axes.fill_between(
            budgets, [100 * end for end in low], [100 * end for end in high], alpha=0.12, color=f"C{number}"
        )
        axes.plot(budgets, values, marker="o", color=f"C{number}", label=_escaped(evaluation.benchmark))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="token budget", ylabel="mean@k, percent", ylim=(0, 105))
    axes.legend(frameon=False)
    return _plain(figure)


def _largest(evaluation: Evaluation, metric: str) -> Score:
    return max((score for score in evaluation.scores if score.metric == metric), key=lambda score: score.k)


def _bars(axes: Axes, places: Sequence[float], scores: Sequence[Score], *, label: str, color: str) -> None:
    values = [100 * score.value for score in scores]
    # Rounding may put an end of an interval on the wrong side of a value of 0 or 1.
    below = [max(0.0, 100 * (score.value - score.interval[0])) for score in scores]
    above = [max(0.0, 100 * (score.interval[1] - score.value)) for score in scores]
    axes.bar(places, values, width=0.25, color=color, label=label, yerr=[below, above], capsize=3, ecolor="#555")
    for place, score, value in zip(places, scores, values, strict=True):
        axes.text(place, min(104, 100 * score.interval[1] + 1), f"{value:.1f}", ha="center", fontsize=8)


def _title(evaluation: Evaluation) -> str:
    return f"{evaluation.benchmark}\n{evaluation.num_problems} problems, k = {evaluation.num_samples}"


def _panels(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _escaped(name: str) -> str:
    """Return a name in which a legend finds no formula."""
    return name.replace("$", r"\$")


def _plain(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure
