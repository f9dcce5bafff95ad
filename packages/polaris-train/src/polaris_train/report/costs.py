"""What a run cost: seconds and tokens of its recipe's steps, and of the phases of its stages."""

from collections.abc import Sequence

from polaris_train.report.document import Table
from polaris_train.report.evidence import EVALUATIONS, RunEvidence, StageEvidence
from polaris_train.report.steps import RecipeStep

PHASES = ("sample", "update", "evaluate", "checkpoint")
"""Of a step, in their order."""


def step_costs(run: RunEvidence, steps: Sequence[RecipeStep]) -> Table | None:
    """Return when each step of the recipe started, how long it took and how much it sampled."""
    tokens = sampled_tokens(run)
    rows = [
        [
            step.name,
            manifest.started or "?" if manifest else "",
            duration(manifest.seconds) if manifest and manifest.seconds is not None else "",
            f"{tokens[step.key]:,}" if step.key in tokens else "",
        ]
        for step in steps
        for manifest in [run.manifests.get(step.key)]
        if manifest or step.key in tokens
    ]
    if not rows:
        return None
    seconds = sum(each.seconds or 0 for each in run.manifests.values())
    total = ["all", "", duration(seconds) if run.manifests else "", f"{sum(tokens.values()):,}"]
    return Table(("step", "started", "time", "tokens sampled"), [*rows, total], words=("started",))


def sampled_tokens(run: RunEvidence) -> dict[str, int]:
    """Return how many tokens each step of the recipe sampled, where that is known."""
    tokens: dict[str, int] = {}
    if any(each.mean_tokens is not None for each in run.profile):
        tokens["profile"] = round(sum((each.mean_tokens or 0) * each.num_samples for each in run.profile))
    for stage in run.stages:
        if stage.temperature:
            tokens[f"{stage.name}.temperature"] = stage.temperature.sampled_tokens
        if stage.metrics:
            tokens[f"{stage.name}.train"] = sum(line.sampled_tokens for line in stage.metrics)
    for name in EVALUATIONS:
        if name in run.evaluations:
            tokens[f"evaluate.{name}"] = round(
                sum(
                    (problem.mean_tokens or 0) * problem.num_samples
                    for each in run.evaluations[name].evaluations
                    for problem in each.problems
                )
            )
    return tokens


def phase_costs(stages: Sequence[StageEvidence], names: Sequence[str]) -> Table | None:
    """Return the seconds of each phase of each stage, its share, and tokens per second.

    Args:
        stages: With the steps that they have.
        names: What each is called.
    """
    rows = [row for stage, name in zip(stages, names, strict=True) if stage.performance for row in _phases(stage, name)]
    header = ("stage", "phase", "time", "share", "tokens / s", "peak memory")
    return Table(header, rows, words=("phase",)) if rows else None


def _phases(stage: StageEvidence, name: str) -> list[list[str]]:
    lines = stage.performance
    total = sum(sum(line.seconds.values()) for line in lines)
    seen = {phase for line in lines for phase in line.seconds}
    rows: list[list[str]] = []
    for phase in [*(phase for phase in PHASES if phase in seen), *sorted(seen - set(PHASES))]:
        seconds = sum(line.seconds.get(phase, 0.0) for line in lines)
        tokens = sum(line.tokens_per_second.get(phase, 0.0) * line.seconds.get(phase, 0.0) for line in lines)
        peak = max((line.peak_memory_gib.get(phase, 0.0) for line in lines), default=0.0)
        rate = f"{tokens / seconds:,.0f}" if tokens and seconds else ""
        share = f"{seconds / total:.0%}" if total else ""
        rows.append([name, phase, duration(seconds), share, rate, f"{peak:.1f} GiB"])
    replayed = sum(line.replayed for line in lines)
    if replayed:
        rows.append([name, f"{replayed} of {len(lines)} steps were replayed, not sampled", "", "", "", ""])
    return rows


def duration(seconds: float) -> str:
    """Return a time as text: ``12.3 s``, ``4 min 05 s``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return (
        f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
        if seconds < 3600
        else f"{minutes // 60:,} h {minutes % 60:02d} min"
    )
