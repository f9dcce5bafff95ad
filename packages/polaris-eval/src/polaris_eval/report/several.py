"""Several models in one table: benchmarks as columns, each compared with the first model on the same problems."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polaris_eval.errors import SettingError
from polaris_eval.records import Evaluation, Score
from polaris_eval.scores.compare import Comparison, compare_scores, differences_to_know
from polaris_eval.scores.files import Scores, read_scores

MISSING = "-"
"""Cell of a benchmark that a model was not run on."""

_METRIC = re.compile(r"(?P<name>mean|pass|maj|mg-pass)@(?P<k>k|\d+)|truncated|no_answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One score of one model."""

    score: Score
    """With its interval."""

    is_different: bool
    """Whether the 95% interval of the paired difference to the first model leaves out 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """Several models beside each other."""

    models: Sequence[str]
    """The first is what the others are compared with."""

    benchmarks: Sequence[str]
    """The columns."""

    metrics: Sequence[str]
    """Of each a row for every model, the models of one metric beneath each other."""

    cells: Sequence[Sequence[Cell | None]]
    """By row and column; ``None`` where a model has no such score."""

    averages: Sequence[float | None]
    """Plain mean of each row, where it is full and has several columns."""

    comparisons: Sequence[tuple[str, Comparison]]
    """Model and how it differs from the first one, by ``mean@k``."""

    warnings: Sequence[str]
    """What else differs between a model and the first one."""


def put_in_table(runs: Sequence[Path], *, metrics: Sequence[str] = ("mean@k",), common: bool = False) -> ModelTable:
    """Read evaluations and set them beside each other.

    Args:
        runs: Folders that ``run`` or ``grade`` wrote, or their ``scores.json``.
        metrics: ``mean@k``, ``pass@16``, ``maj@64``, ...: a row of each model for each.
        common: Compare the problems that both have where one has more; else that is refused.

    Raises:
        SettingError: If a metric is unknown, or no model has it.
        ScoresFileError: If scores cannot be read.
        MixedProblemsError: If a benchmark is not of the same problems everywhere.
    """
    read = [read_scores(run) for run in runs]
    models = _names(read)
    names = list(dict.fromkeys(each.benchmark for scores in read for each in scores.evaluations))
    found = [{each.benchmark: each for each in scores.evaluations} for scores in read]
    comparisons: list[dict[str, Comparison]] = [{}]
    warnings: list[str] = []
    for model, scores in zip(models[1:], read[1:], strict=True):
        shared = found[0].keys() & {each.benchmark for each in scores.evaluations}
        compared = compare_scores(read[0], scores, common=common) if shared else []
        comparisons.append({each.benchmark: each for each in compared})
        warnings += [f"{model} beside {models[0]}: {said}" for said in differences_to_know(read[0], scores)]
    cells = [
        [_cell(own.get(name), metric, compared.get(name)) for name in names]
        for metric in metrics
        for own, compared in zip(found, comparisons, strict=True)
    ]
    for at, metric in enumerate(metrics):
        if all(cell is None for row in cells[at * len(models) : (at + 1) * len(models)] for cell in row):
            raise SettingError(f"no evaluation has {metric!r}; give one of: {', '.join(_known(read))}")
    return ModelTable(
        models=models,
        benchmarks=names,
        metrics=metrics,
        cells=cells,
        averages=[_average(row) for row in cells],
        comparisons=[
            (model, each) for model, compared in zip(models, comparisons, strict=True) for each in compared.values()
        ],
        warnings=warnings,
    )


def to_rows(table: ModelTable, *, plus_minus: bool) -> list[list[str]]:
    """Return one row of text for each model and metric, below one that names the columns; shares in percent.

    Args:
        table: As `put_in_table` makes it.
        plus_minus: Half of the interval's width in place of its ends.
    """
    has_average = any(average is not None for average in table.averages)
    has_metric = len(table.metrics) > 1
    rows = [["model", *(["metric"] if has_metric else []), *table.benchmarks, *(["average"] if has_average else [])]]
    names = [(model, metric) for metric in table.metrics for model in table.models]
    for (model, metric), cells, average in zip(names, table.cells, table.averages, strict=True):
        shown = MISSING if average is None else f"{100 * average:.1f}"
        row = [model, *([metric] if has_metric else []), *(_text(cell, plus_minus) for cell in cells)]
        rows.append([*row, *([shown] if has_average else [])])
    return rows


def to_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
    rule = " | ".join("---:" if number else "---" for number in range(len(rows[0])))
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def to_latex(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in LaTeX, for the package booktabs."""
    header, *body = [" & ".join(map(_latex, row)) + r" \\" for row in rows]
    columns = "l" + "r" * (len(rows[0]) - 1)
    begin = rf"\begin{{tabular}}{{{columns}}}"
    return "\n".join([begin, r"\toprule", header, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"])


FORMATS: Mapping[str, Callable[[Sequence[Sequence[str]]], str]] = {"markdown": to_markdown, "latex": to_latex}
"""How a table is written for others."""


def _names(read: Sequence[Scores]) -> list[str]:
    """Return the models' names, with their folders where two are the same."""
    models = [scores.model for scores in read]
    return [
        model if models.count(model) == 1 else f"{model} ({scores.folder})"
        for model, scores in zip(models, read, strict=True)
    ]


def _cell(evaluation: Evaluation | None, metric: str, comparison: Comparison | None) -> Cell | None:
    match = _METRIC.fullmatch(metric)
    if match is None:
        raise SettingError(f"--metric is {metric!r}; give one like mean@k, pass@16, maj@64, mg-pass@16 or truncated")
    name, k = match["name"], match["k"]
    wanted = metric if name is None else f"{name}@k"
    if evaluation is None:
        return None
    try:
        score = evaluation.score(wanted, int(k) if k and k != "k" else None)
    except KeyError:
        return None
    low, high = comparison.difference.interval if comparison else (0.0, 0.0)
    return Cell(score=score, is_different=wanted == "mean@k" and (low > 0 or high < 0))


def _average(row: Sequence[Cell | None]) -> float | None:
    values = [cell.score.value for cell in row if cell is not None]
    return sum(values) / len(values) if len(values) == len(row) > 1 else None


def _known(read: Sequence[Scores]) -> list[str]:
    scores = [score for each in read for evaluation in each.evaluations for score in evaluation.scores]
    names = dict.fromkeys(score.metric.replace("@k", f"@{score.k}") for score in scores)
    return [name for name in names if _METRIC.fullmatch(name)]


def _text(cell: Cell | None, plus_minus: bool) -> str:
    if cell is None:
        return MISSING
    low, high = (100 * end for end in cell.score.interval)
    value = f"{100 * cell.score.value:.1f}"
    spread = f"± {(high - low) / 2:.1f}" if plus_minus else f"[{low:.1f}, {high:.1f}]"
    return f"{value} {spread}{' *' if cell.is_different else ''}"


def _latex(cell: str) -> str:
    cell = re.sub(r"[&%$#_{}]", lambda match: f"\\{match[0]}", cell.replace("\\", r"\textbackslash "))
    cell = cell.replace("~", r"\textasciitilde ").replace("^", r"\textasciicircum ")
    return cell.replace("±", r"$\pm$").removesuffix(" *") + ("$^{*}$" if cell.endswith(" *") else "")
