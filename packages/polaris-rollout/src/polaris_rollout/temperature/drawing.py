"""A temperature search as a picture: accuracy, diversity, the zones and how sure their borders are."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from polaris_rollout.store.table import renamed_when_whole
from polaris_rollout.temperature.report import quantity_of

PLOT_NAMES = ("temperature.png", "temperature.svg")

_ZONES = (("robust", "tab:green"), ("exploration", "tab:orange"), ("collapse", "tab:red"))
_ACCURACY, _DIVERSITY = "tab:blue", "tab:purple"
_BARS = 1.08
"""Height of the bars that are the intervals of the borders, above the shares."""


def draw_report(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw accuracy, diversity and zones over temperature as ``temperature.png`` and ``temperature.svg``."""
    figure = draw_curves(report)
    paths = [folder / name for name in PLOT_NAMES]
    for path in paths:
        with renamed_when_whole(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150)
    return paths


def draw_curves(report: Mapping[str, Any]) -> Figure:
    """Draw accuracy, diversity and zones over temperature.

    Args:
        report: As `polaris_rollout.temperature.report.to_report` returns it; what older ones lack is not drawn.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    fit = report["fit"]
    low, high = fit["temperatures"][0], fit["temperatures"][-1]
    borders = [*_borders(report)]
    edges = [low, *(min(max(border["value"], low), high) for border, _ in borders), high]
    for (name, colour), left, right in zip(_ZONES, edges, edges[1:], strict=False):
        axes.axvspan(left, right, color=colour, alpha=0.12, label=f"{name} zone", linewidth=0)
    for border, (name, colour) in borders:
        axes.plot([border["low"], border["high"]], [_BARS] * 2, color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot(border["value"], _BARS, "|", color=colour, markersize=9, label=f"start of {name}, with its interval")
    _draw_band(axes, fit["temperatures"], fit, "accuracy", _ACCURACY)
    _draw_points(axes, report["curve"], "accuracy", _ACCURACY, "o")
    if fit.get("diversity"):
        _draw_band(axes, fit["diversity_temperatures"], fit, "diversity", _DIVERSITY)
    _draw_points(axes, report["curve"], "diversity", _DIVERSITY, "s", label=_quantity(report))
    if report.get("target_diversity") is not None:
        axes.axhline(
            report["target_diversity"],
            color=_DIVERSITY,
            linestyle=":",
            linewidth=1,
            label=f"target {_quantity(report)}",
        )
    axes.axvline(report["temperature"], color="black", linestyle="--", label=f"chosen: {report['temperature']:.2f}")
    margin = 0.02 * (high - low)  # for the points and the choice at either end
    xlim = (low - margin, high + margin)
    axes.set(xlabel="sampling temperature", ylabel="share", ylim=(0, _BARS + 0.04), xlim=xlim)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.set_title(_title(report))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _quantity(report: Mapping[str, Any]) -> str:
    return quantity_of((report.get("measure") or {}).get("name"))


def _title(report: Mapping[str, Any]) -> str:
    target = report.get("target_diversity")
    quantity = _quantity(report)
    if target is not None:
        reached = report.get("diversity")
        found = f"{reached['value']:.3f}, " if reached else ""
        return f"temperature {report['temperature']:.2f}: {quantity} {found}target {target:.3f}"
    sought = "where exploration starts"
    if report.get("interval") is None and report.get("warnings") is not None:
        sought = "as given"
    return f"temperature {report['temperature']:.2f}: {sought}"


def _borders(report: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, float], tuple[str, str]]]:
    """Yield the borders that were found, each with the zone that starts there."""
    for zone in _ZONES[1:]:
        if border := report["zones"][zone[0]]:
            yield border, zone


def _draw_band(axes: Any, temperatures: Sequence[float], fit: Mapping[str, Any], name: str, colour: str) -> None:
    axes.plot(temperatures, fit[name], color=colour, linewidth=1)
    axes.fill_between(temperatures, fit[f"{name}_low"], fit[f"{name}_high"], color=colour, alpha=0.2, linewidth=0)


def _draw_points(axes: Any, curve: Any, name: str, colour: str, marker: str, *, label: str | None = None) -> None:
    known = [point for point in curve if point[name]]
    values = [point[name]["value"] for point in known]
    below = [point[name]["value"] - point[name]["low"] for point in known]
    above = [point[name]["high"] - point[name]["value"] for point in known]
    temperatures = [point["temperature"] for point in known]
    axes.errorbar(
        temperatures,
        values,
        yerr=[below, above],
        fmt=marker,
        color=colour,
        markersize=4,
        capsize=2,
        label=label or name,
    )
