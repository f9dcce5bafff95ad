"""The report of a temperature search: what was measured, what was decided and why.

``temperature.json`` is what the next stage reads; the table, and the plot of `polaris_rollout.temperature.drawing`, are
for people.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from polaris_rollout.errors import StoreError
from polaris_rollout.store.table import renamed_when_whole
from polaris_rollout.temperature.budget import Floats, Probe, ProbeRun
from polaris_rollout.temperature.diversity import bootstrap_interval
from polaris_rollout.temperature.measure import NGRAM, DiversityMeasure, ModelProbe, Texture
from polaris_rollout.temperature.rising import LEAST_SHARE, fit_diversity
from polaris_rollout.temperature.search import Choice
from polaris_rollout.temperature.zones import COLLAPSE_LOSS

REPORT_NAME = "temperature.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What an earlier stage's search left for the next one."""

    temperature: float
    """That was chosen."""

    diversity_by_problem: Mapping[str, float]
    """At the chosen temperature."""

    measure: DiversityMeasure
    """Of diversity."""

    left_out: float
    """Share of truncated answers near the chosen temperature that were left out of the diversity, as older
    versions did; 0 in reports of this one."""


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
        measure, temperature = report["measure"], float(report["temperature"])
        nothing = {"temperature": temperature, "truncated": 0.0}
        curve = report.get("curve") or [nothing]
        near = min(curve, key=lambda point: abs(float(point["temperature"]) - temperature))
        return Earlier(
            temperature=temperature,
            diversity_by_problem={key: float(value) for key, value in report["diversity_by_problem"].items()},
            measure=DiversityMeasure(
                name=name if (name := measure.get("name")) in ("published", "entropy") else "expected",
                num_samples=int(measure["num_samples"]),
                num_tokens=int(measure["num_tokens"]) if measure.get("num_tokens") else None,
            ),
            left_out=0.0 if "name" in measure else float(near["truncated"]),
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
    warnings: Sequence[str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of ``temperature.json``.

    Args:
        run: All probes.
        choice: What was decided.
        probe: That measured them.
        target: Diversity, or what the probe measures in its place, that was to be reached, if any.
        max_loss: Share of accuracy whose loss marks the start of exploration.
        warnings: What is in doubt; see `polaris_rollout.temperature.doubts`.
        settings: Of the search, as the user gave them.
    """
    return {
        "temperature": choice.temperature,
        "reason": choice.reason,
        "warnings": list(warnings),
        "interval": asdict(choice.interval) if choice.interval else None,
        "target_diversity": target,
        "diversity": asdict(choice.diversity),
        "level": choice.level,
        "zones": {
            "exploration": asdict(choice.exploration) | {"loss": max_loss},
            "collapse": asdict(choice.collapse) | {"loss": COLLAPSE_LOSS} if choice.collapse else None,
        },
        "measure": _measure(probe),
        "curve": [_point(each, probe.texture(each.temperature), choice.level) for each in run.probes.values()],
        "fresh": [
            {
                "temperature": each.temperature,
                "num_problems": len(each.diversity),
                "num_samples": each.num_samples,
                "diversity": _interval(each.diversity, choice.level),
            }
            for each in run.fresh
        ],
        "fit": _fit(run, choice),
        "answers_per_problem": run.num_answers,
        "sampled_tokens": round(run.num_tokens),
        "diversity_by_problem": _by_problem(run, choice.temperature, probe.problem_ids[: run.num_problems]),
        "settings": dict(settings),
    }


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write ``temperature.json``, under a temporary name first."""
    path = folder / REPORT_NAME
    with renamed_when_whole(path) as file:
        file.write((json.dumps(report, indent=2) + "\n").encode())
    return path


def _measure(probe: ModelProbe) -> dict[str, Any]:
    unit = "word" if probe.name == "published" else "token"
    return {
        "name": probe.name,
        "unit": unit,
        "n": NGRAM,
        "num_samples": probe.batch,
        "num_tokens": (probe.num_tokens or 0) if probe.name == "expected" else None,
    }


def quantity_of(name: str | None) -> str:
    """Return what a measure, by its name, is a measure of."""
    return "entropy" if name == "entropy" else "diversity"


def describe_measure(measure: Mapping[str, Any]) -> str:
    """Say what diversity, or what stands in its place, means in a report."""
    if measure.get("name") == "entropy":
        return "of a token at the temperature that drew it, in nats: the mean of -log p over the tokens of all answers"
    ngrams = f"distinct {measure['n']}-grams of {measure['unit']}s"
    if measure.get("name") == "published":
        return f"the published score: share of {ngrams} in {measure['num_samples']} whole answers"
    return f"share of {ngrams} expected in {measure['num_samples']} answers of {measure['num_tokens']:,} tokens"


def _point(probe: Probe, texture: Texture, level: float) -> dict[str, Any]:
    return {
        "temperature": probe.temperature,
        "num_samples": probe.num_samples,
        "num_problems": probe.num_asked,
        "accuracy": _interval(probe.accuracy, level),
        "diversity": _interval(probe.diversity, level),
        "truncated": float(np.nanmean(probe.truncated)),
        "mean_tokens": float(np.nanmean(probe.tokens)),
        **asdict(texture),
    }


def _interval(values: Floats, level: float) -> dict[str, float] | None:
    """Return mean and bootstrap interval over problems; ``None`` where too few have a value."""
    if np.isnan(values).mean() > 1 - LEAST_SHARE:
        return None
    return asdict(bootstrap_interval(values, level=level))


def _fit(run: ProbeRun, choice: Choice) -> dict[str, list[float]]:
    quantiles = [(1 - choice.level) / 2, 0.5, (1 + choice.level) / 2]
    low, middle, high = np.quantile(choice.fit.accuracy(run.grid), quantiles, axis=0)
    rising = fit_diversity(run, seed=0)
    below, _, above = np.quantile(rising.draws, quantiles, axis=0)
    return {
        "temperatures": run.grid.tolist(),
        "accuracy": middle.tolist(),
        "accuracy_low": low.tolist(),
        "accuracy_high": high.tolist(),
        "diversity_temperatures": rising.temperatures.tolist(),
        "diversity": rising.curve.tolist(),
        "diversity_low": below.tolist(),
        "diversity_high": above.tolist(),
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


def report_table(report: Mapping[str, Any]) -> Table:
    """Return the curve as a table of at most 80 columns, a row for each temperature."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, collapse_padding=True)
    quantity = quantity_of(report["measure"].get("name"))
    for name in (
        "T",
        "n",
        "accuracy",
        quantity,
        "published",
        "cut",
        "tokens",
        "answers" if quantity == "entropy" else "entropy",
        "zone",
    ):
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
    return table


def describe_columns(report: Mapping[str, Any]) -> str:
    """Say what the columns of the table are."""
    quantity = quantity_of(report["measure"].get("name"))
    last = "answers: entropy of the final answers" if quantity == "entropy" else "entropy of the final answers"
    return (
        f"n answers of each problem; means with {report['level']:.0%} intervals over problems\n"
        f"{quantity}: {describe_measure(report['measure'])}\n"
        f"published: distinct 4-grams of words in {report['measure']['num_samples']} whole answers\n"
        f"cut short by the budget of tokens; {last}, in nats"
    )


def describe_decision(report: Mapping[str, Any]) -> str:
    """Return the decision in a few lines, and what is in doubt."""
    zones = report["zones"]
    collapse = _describe(zones["collapse"], 2) if zones["collapse"] else "beyond the highest temperature"
    interval = report.get("interval")
    between = f" [{interval['low']:.2f}, {interval['high']:.2f}]" if interval and report["target_diversity"] else ""
    lines = (
        f"temperature {report['temperature']:.2f}{between}: {report['reason']}",
        f"{quantity_of(report['measure'].get('name'))} there {_describe(report['diversity'])}",
        f"exploration starts at {_describe(zones['exploration'], 2)}, collapse at {collapse}",
        *(f"warning: {each}" for each in report.get("warnings", ())),
    )
    return "\n".join(lines)


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
