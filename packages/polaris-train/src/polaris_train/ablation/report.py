"""The table of an ablation, as numbers, as text, and as a page with a picture."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from statistics import fmean
from typing import Any

from polaris_data.files import write_json, write_text

from polaris_train.ablation.arms import Arm, same_arms
from polaris_train.ablation.contrast import Contrast, Interval
from polaris_train.ablation.request import Ablation
from polaris_train.ablation.results import RunResult, read_results
from polaris_train.ablation.table import Row, arm_tables, found, reference

_INTERVALS = ("over problems", "over both")
COST_HEADER = ("", "tokens", "to the budget", "profile", "temperature", "training", "steps", "seconds")


def _header(ablation: Ablation) -> tuple[str, ...]:
    against = reference(ablation.known).label
    return "", "mean@k", f"to {against}", *_INTERVALS, "to the arm before", *_INTERVALS, "YaRN", "found"


def write_ablation(ablation: Ablation) -> None:
    """Write ``ablation.json``, ``ablation.md`` and ``ablation.html`` from the runs that are finished."""
    from polaris_data.view import svg_part, table_part, text_part, write_page

    from polaris_train.ablation.picture import draw_ablation

    results = read_results(ablation)
    if not results:
        return
    tables = arm_tables(ablation.known, results)
    numbers, text, page = ablation.results
    write_json(numbers, _to_json(ablation, results, tables))
    write_text(text, _markdown(ablation, results, tables))
    parts = [text_part("\n".join(_notes(ablation, results)))]
    for name, rows in tables.items():
        parts += [
            f"<h2>{escape(name)}</h2>",
            *map(text_part, _headline(rows, reference(ablation.known))),
            svg_part(draw_ablation(rows)),
            table_part(_header(ablation), map(_cells, rows)),
        ]
    parts += ["<h2>Cost, mean over seeds</h2>", table_part(COST_HEADER, _costs(ablation, results))]
    write_page(page, _title(ablation), parts)


def describe_ablation(ablation: Ablation) -> str:
    """Return the text of ``ablation.md``."""
    results = read_results(ablation)
    return _markdown(ablation, results, arm_tables(ablation.known, results))


def _to_json(
    ablation: Ablation, results: Mapping[str, Sequence[RunResult]], tables: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    first = next(iter(results.values()))
    return {
        "recipe": ablation.recipe.name,
        "seeds": [run.seed for run in first],
        "missing_seeds": [seed for seed in ablation.seeds if seed not in {run.seed for run in first}],
        "left_out": same_arms(ablation.recipe),
        "benchmarks": {
            name: [
                {
                    "arm": row.arm.name,
                    "mean": asdict(row.mean),
                    "to_plain": _or_none(row.to_plain),
                    "before": None if row.before is None else row.before.name,
                    "to_before": _or_none(row.to_before),
                    "found": found(row.to_before),
                    "yarn": _or_none(row.yarn),
                    "to_yarn": _or_none(row.to_yarn),
                }
                for row in rows
            ]
            for name, rows in tables.items()
        },
        "runs": [
            {
                "arm": run.arm.name,
                "seed": run.seed,
                "tokens": asdict(run.spent)
                | {"total": run.spent.total, "to_budget": _to_budget(run, ablation, results)},
                "steps": run.steps,
                "seconds": round(run.seconds, 1),
            }
            for runs in results.values()
            for run in runs
        ],
    }


def _or_none(each: Contrast | None) -> dict[str, Any] | None:
    return None if each is None else asdict(each)


def _markdown(
    ablation: Ablation, results: Mapping[str, Sequence[RunResult]], tables: Mapping[str, Sequence[Row]]
) -> str:
    parts = [f"# {_title(ablation)}", "\n".join(_notes(ablation, results))]
    for name, rows in tables.items():
        parts.append("\n\n".join((f"## {name}", *_headline(rows, reference(ablation.known)))))
        parts.append(_markdown_table(_header(ablation), [_cells(row) for row in rows]))
    parts.append(f"## Cost, mean over seeds\n\n{_markdown_table(COST_HEADER, list(_costs(ablation, results)))}")
    run = [arm for name, arm in ablation.known.items() if name in results]
    parts.append("\n".join(f"- {arm.label}: {arm.meaning}." for arm in run))
    return "\n\n".join(parts) + "\n"


def _headline(rows: Sequence[Row], against: Arm) -> Iterator[str]:
    for row in rows:
        if row.arm.name == "full" and row.to_plain is not None:
            yield (
                f"The full recipe is {_difference(row.to_plain)} points from {against.label} at equal sampled tokens: "
                f"{found(row.to_plain) or 'not to be told with one seed'}."
            )


def _title(ablation: Ablation) -> str:
    return f"Ablation of {ablation.recipe.name}"


def _notes(ablation: Ablation, results: Mapping[str, Sequence[RunResult]]) -> Iterator[str]:
    num_seeds = len(next(iter(results.values()), ()))
    yield (
        f"{num_seeds} of {len(ablation.seeds)} seeds; differences are paired by seed and problem, in points. Intervals "
        "are of 95%: beside a value over seeds (t over the mean of each seed), then over problems (clustered), "
        "then over both. What is found goes by the one over seeds, against the arm before."
    )
    if num_seeds < 2:
        yield "One seed says nothing about how another training would end: give two or more, better five."
    for name, why in same_arms(ablation.recipe).items():
        yield f"Not run: {ablation.known[name].label}, since {why}."


def _cells(row: Row) -> tuple[str, ...]:
    mean = f"{100 * row.mean.value:.1f} {_interval(row.mean.seeds)}".strip()
    yarn = "" if row.yarn is None or row.to_yarn is None else f"{100 * row.yarn.value:.1f} ({_difference(row.to_yarn)})"
    return (
        row.arm.label,
        mean,
        *_compared(row.to_plain),
        *_compared(row.to_before),
        yarn,
        found(row.to_before),
    )


def _compared(each: Contrast | None) -> tuple[str, str, str]:
    if each is None:
        return "", "", ""
    return _difference(each), _interval(each.problems, sign="+"), _interval(each.both, sign="+")


def _difference(each: Contrast) -> str:
    return f"{100 * each.value:+.1f} {_interval(each.seeds, sign='+')}".strip()


def _interval(interval: Interval | None, *, sign: str = "") -> str:
    return "" if interval is None else f"[{100 * interval[0]:{sign}.1f}, {100 * interval[1]:{sign}.1f}]"


def _costs(ablation: Ablation, results: Mapping[str, Sequence[RunResult]]) -> Iterator[tuple[str, ...]]:
    for name in (name for name in ablation.known if name in results):
        runs = results[name]
        yield (
            ablation.known[name].label,
            f"{fmean(run.spent.total for run in runs):,.0f}",
            f"{100 * fmean(_to_budget(run, ablation, results) for run in runs):+.1f}%",
            f"{fmean(run.spent.profile for run in runs):,.0f}",
            f"{fmean(sum(run.spent.temperature.values()) for run in runs):,.0f}",
            f"{fmean(sum(run.spent.training.values()) for run in runs):,.0f}",
            f"{fmean(run.steps for run in runs):.1f}",
            f"{fmean(run.seconds for run in runs):,.0f}",
        )


def _to_budget(run: RunResult, ablation: Ablation, results: Mapping[str, Sequence[RunResult]]) -> float:
    """Return how much more a run sampled than it was to, as a share."""
    budget = ablation.tokens
    if budget is None:
        (budget,) = (each.spent.total for each in results["full"] if each.seed == run.seed)
    return run.spent.total / budget - 1


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(row) for row in (header, ["---", *["---:"] * (len(header) - 1)], *rows)]
    return "\n".join(f"| {line} |" for line in lines)
