"""The report of a temperature search: what was measured, what was decided and why.

``temperature.json`` is what the next stage reads; the table and the plot, with the three zones, are for people.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from polaris_rollout.errors import StoreError
from polaris_rollout.store.table import renamed_when_whole
from polaris_rollout.temperature.budget import Floats, ProbeRun
from polaris_rollout.temperature.diversity import bootstrap_interval
from polaris_rollout.temperature.measure import NGRAM, ModelProbe, Texture
from polaris_rollout.temperature.search import LEAST_SHARE, Choice
from polaris_rollout.temperature.zones import COLLAPSE_LOSS

REPORT_NAME = "temperature.json"

PLOT_NAMES = ("temperature.png", "temperature.svg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What an earlier stage's search left for the next one."""

    temperature: float
    """That was chosen."""

    diversity_by_problem: Mapping[str, float]
    """At the chosen temperature."""

    num_samples: int
    """Answers that diversity is expected of."""

    num_tokens: int
    """Tokens of each answer that diversity is expected of."""


def read_earlier(path: Path) -> Earlier:
    """Read the report of an earlier search.

    Args:
        path: ``temperature.json``, or the folder of a stage that holds it.

    Raises:
        StoreError: If it is not there or is not such a report.
    """
    path = path / REPORT_NAME if path.is_dir() else path
    if not path.is_file():
        raise StoreError(f"no {str(path)!r}; give a stage folder in which a temperature was searched")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return Earlier(
            temperature=float(report["temperature"]),
            diversity_by_problem={key: float(value) for key, value in report["diversity_by_problem"].items()},
            num_samples=int(report["measure"]["num_samples"]),
            num_tokens=int(report["measure"]["num_tokens"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is not a temperature report ({error!r}); search that stage again") from error


def to_report(
    run: ProbeRun,
    choice: Choice,
    probe: ModelProbe,
    *,
    target: float | None,
    max_loss: float,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of ``temperature.json``.

    Args:
        run: All probes.
        choice: What was decided.
        probe: That measured them.
        target: Diversity that was to be reached, if any.
        max_loss: Share of accuracy whose loss marks the start of exploration.
        settings: Of the search, as the user gave them.
    """
    return {
        "temperature": choice.temperature,
        "reason": choice.reason,
        "target_diversity": target,
        "diversity": asdict(choice.diversity),
        "level": choice.level,
        "zones": {
            "exploration": asdict(choice.exploration) | {"loss": max_loss},
            "collapse": asdict(choice.collapse) | {"loss": COLLAPSE_LOSS} if choice.collapse else None,
        },
        "measure": {"unit": "token", "n": NGRAM, "num_samples": probe.batch, "num_tokens": probe.num_tokens or 0},
        "curve": [_point(run, index, probe.textures, choice.level) for index in range(len(run.probes))],
        "fit": _fit(run, choice),
        "answers_per_problem": run.num_answers,
        "sampled_tokens": round(run.num_tokens),
        "diversity_by_problem": _by_problem(run, choice.temperature, probe.problem_ids),
        "settings": dict(settings),
    }


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write ``temperature.json``, under a temporary name first."""
    path = folder / REPORT_NAME
    with renamed_when_whole(path) as file:
        file.write((json.dumps(report, indent=2) + "\n").encode())
    return path


def report_paths(folder: Path) -> list[Path]:
    """Return the files of a report: ``temperature.json``, then the plots."""
    return [folder / name for name in (REPORT_NAME, *PLOT_NAMES)]


def _point(run: ProbeRun, index: int, textures: Mapping[float, Texture], level: float) -> dict[str, Any]:
    probe = list(run.probes.values())[index]
    return {
        "temperature": probe.temperature,
        "num_samples": probe.num_samples,
        "accuracy": _interval(probe.accuracy, level),
        "diversity": _interval(probe.diversity, level),
        "truncated": float(probe.truncated.mean()),
        "mean_tokens": float(probe.tokens.mean()),
        **asdict(textures[probe.temperature]),
    }


def _interval(values: Floats, level: float) -> dict[str, float] | None:
    """Return mean and bootstrap interval over problems; ``None`` where too few have a value."""
    if np.isnan(values).mean() > 1 - LEAST_SHARE:
        return None
    return asdict(bootstrap_interval(values, level=level))


def _fit(run: ProbeRun, choice: Choice) -> dict[str, list[float]]:
    curves = choice.fit.accuracy(run.grid)
    low, middle, high = np.quantile(curves, [(1 - choice.level) / 2, 0.5, (1 + choice.level) / 2], axis=0)
    return {
        "temperatures": run.grid.tolist(),
        "accuracy": middle.tolist(),
        "accuracy_low": low.tolist(),
        "accuracy_high": high.tolist(),
    }


def _by_problem(run: ProbeRun, temperature: float, problem_ids: Sequence[str]) -> dict[str, float]:
    """Return each problem's diversity at a temperature between those probed; problems without one are left out."""
    values = run.values("diversity")
    interpolated = {
        problem_id: float(np.interp(temperature, run.temperatures[known], column[known]))
        for problem_id, column in zip(problem_ids, values.T, strict=True)
        if (known := ~np.isnan(column)).any()
    }
    return dict(sorted(interpolated.items()))


_ZONES = (("robust", "tab:green"), ("exploration", "tab:orange"), ("collapse", "tab:red"))


def report_table(report: Mapping[str, Any]) -> Table:
    """Return the curve as a table, a row for each temperature; the intervals are those of the report."""
    table = Table(title=f"mean and {report['level']:.0%} interval over problems", title_justify="left")
    for name in ("T", "answers", "accuracy", "diversity", "distinct-4", "cut", "tokens", "entropy", "zone"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in report["curve"]:
        table.add_row(
            f"{point['temperature']:.2f}",
            str(point["num_samples"]),
            _compact(point["accuracy"]),
            _compact(point["diversity"]),
            f"{point['distinct_4']:.3f}",
            f"{point['truncated']:.0%}",
            f"{point['mean_tokens']:,.0f}",
            f"{point['answer_entropy']:.2f}",
            _zone(report, point["temperature"]),
        )
    table.caption = "answers of each problem; cut by the token budget; entropy of the final answers, in nats"
    table.caption_justify = "left"
    return table


def describe_decision(report: Mapping[str, Any]) -> str:
    """Return the decision in two or three lines."""
    zones = report["zones"]
    collapse = _describe(zones["collapse"], 2) if zones["collapse"] else "beyond the highest temperature"
    return (
        f"temperature {report['temperature']:.2f}: {report['reason']}\n"
        f"diversity there {_describe(report['diversity'])}\n"
        f"exploration starts at {_describe(zones['exploration'], 2)}, collapse at {collapse}"
    )


def draw_report(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw accuracy, diversity and zones over temperature as ``temperature.png`` and ``temperature.svg``."""
    figure = draw_curves(report)
    paths = [folder / name for name in PLOT_NAMES]
    for path in paths:
        with renamed_when_whole(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150)
    return paths


def draw_curves(report: Mapping[str, Any]) -> Figure:
    """Draw accuracy, diversity and zones over temperature."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    fit = report["fit"]
    low, high = fit["temperatures"][0], fit["temperatures"][-1]
    borders = [low, *_borders(report, low, high), high]
    for (name, colour), left, right in zip(_ZONES, borders, borders[1:], strict=False):
        axes.axvspan(left, right, color=colour, alpha=0.12, label=f"{name} zone", linewidth=0)
    axes.plot(fit["temperatures"], fit["accuracy"], color="tab:blue", linewidth=1)
    axes.fill_between(fit["temperatures"], fit["accuracy_low"], fit["accuracy_high"], color="tab:blue", alpha=0.2)
    _draw_points(axes, report["curve"], "accuracy", "tab:blue", "o")
    _draw_points(axes, report["curve"], "diversity", "tab:purple", "s")
    axes.axvline(report["temperature"], color="black", linestyle="--", label=f"chosen: {report['temperature']:.2f}")
    axes.set(xlabel="sampling temperature", ylabel="share", ylim=(0, 1.02), xlim=(low, high))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _borders(report: Mapping[str, Any], low: float, high: float) -> list[float]:
    zones = [report["zones"]["exploration"], report["zones"]["collapse"]]
    return [min(max(each["value"], low), high) for each in zones if each]


def _draw_points(axes: Any, curve: Any, name: str, colour: str, marker: str) -> None:
    known = [point for point in curve if point[name]]
    values = [point[name]["value"] for point in known]
    below = [point[name]["value"] - point[name]["low"] for point in known]
    above = [point[name]["high"] - point[name]["value"] for point in known]
    temperatures = [point["temperature"] for point in known]
    axes.errorbar(
        temperatures, values, yerr=[below, above], fmt=marker, color=colour, markersize=4, capsize=2, label=name
    )


def _zone(report: Mapping[str, Any], temperature: float) -> str:
    zones = report["zones"]
    if zones["collapse"] and temperature >= zones["collapse"]["value"]:
        return "collapse"
    return "exploration" if temperature >= zones["exploration"]["value"] else "robust"


def _compact(interval: Mapping[str, float] | None) -> str:
    return f"{interval['value']:.3f} ±{(interval['high'] - interval['low']) / 2:.3f}" if interval else "-"


def _describe(interval: Mapping[str, float] | None, digits: int = 3) -> str:
    if interval is None:
        return "-"
    return f"{interval['value']:.{digits}f} [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]"
