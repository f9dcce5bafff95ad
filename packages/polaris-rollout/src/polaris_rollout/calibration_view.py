"""A temperature report for people: a table and a plot with the three zones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

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
    paths = [folder / "temperature.png", folder / "temperature.svg"]
    for path in paths:
        temporary = path.with_name(f".{path.name}.tmp")
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
        temporary.replace(path)
    return paths


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
