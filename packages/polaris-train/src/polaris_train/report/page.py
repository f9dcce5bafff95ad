"""The report of a run: from its folder, finished or still running, to one page and Markdown."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from polaris_rollout.temperature import describe_measure

from polaris_train.report.completions import BESIDE_MIB, browser_parts
from polaris_train.report.costs import phase_costs, step_costs
from polaris_train.report.decisions import recipe_steps
from polaris_train.report.document import (
    Decisions,
    Fold,
    Markup,
    Missing,
    Part,
    Pictures,
    Section,
    Table,
    Text,
    Warning,
    write_document,
)
from polaris_train.report.dropped import dropped_parts
from polaris_train.report.evaluations import evaluation_parts, protocol_hashes
from polaris_train.report.evidence import RunEvidence, StageEvidence, read_run
from polaris_train.report.flow import recipe_picture
from polaris_train.report.panels import draw_panels
from polaris_train.report.pictures import draw_histogram, draw_temperature
from polaris_train.report.records import Selection
from polaris_train.report.steps import RecipeStep


def write_report(
    path: Path, *, out: Path | None = None, wanted: Sequence[str] = (), beside_mib: int = BESIDE_MIB
) -> tuple[Path, Path]:
    """Write the report of a run: the same bytes for the same folder.

    Args:
        path: Folder of the run.
        out: The page; by default ``report.html`` in the folder.
        wanted: Steps, ``STAGE:STEP``, whose completions must be in the browser.
        beside_mib: Room for completions beside the page.

    Returns:
        The page and the Markdown.

    Raises:
        RunFolderError: If the folder is no run, or a wanted step has no completions.
    """
    run = read_run(path)
    page = out or run.folder.report
    steps = recipe_steps(run)
    notes = list(run.notes)
    dropped = dropped_parts(run, notes)
    completions = browser_parts(run, page, wanted=wanted, beside_mib=beside_mib)
    sections = [
        Section("recipe", "Recipe", _recipe_parts(steps, notes)),
        Section("evaluation", "Evaluation", evaluation_parts(run)),
        Section("training", "Training", _training_parts(run)),
        Section("difficulty", "Difficulty", _difficulty_parts(run)),
        Section("temperature", "Temperature", _temperature_parts(run)),
        Section("signal", "Signal", signal_parts(run.stages, [stage.name for stage in run.stages])),
        Section("dropped", "Problems left out", dropped),
        Section("costs", "Time and tokens", _cost_parts(run, steps)),
        Section("alarms", "Alarms", _alarm_parts(run)),
        Section("completions", "Completions", completions),
    ]
    return page, write_document(page, f"Run {run.name}", _lead(run, steps), sections)


def _lead(run: RunEvidence, steps: Sequence[RecipeStep]) -> list[str]:
    recipe = f"recipe {run.recipe.name}, " if run.recipe else ""
    lines = [f"{recipe}starting from {run.model}" if run.model else "the model is not known yet"]
    times = [event.time for event in run.events]
    times += [time for each in run.manifests.values() for time in (each.started, each.finished) if time]
    if times:
        lines.append(f"from {min(times)} to {max(times)}")
    left = [step.name for step in steps if step.state in ("open", "running", "failed")]
    lines.append(f"not finished: {len(left)} of {len(steps)} steps left, next: {left[0]}" if left else "finished")
    if hashes := protocol_hashes(run):
        lines.append(f"protocol of the evaluations: {', '.join(hashes)}")
    return lines


def _recipe_parts(steps: Sequence[RecipeStep], notes: Sequence[str]) -> list[Part]:
    decided = [(step.state, step.name, step.sentence) for step in steps]
    return [*map(Warning, notes), Markup(recipe_picture(steps)), Decisions(decided)]


def _training_parts(run: RunEvidence) -> list[Part]:
    pictures = draw_panels(run)
    if not pictures:
        return [Missing("No training step is finished yet.")]
    parts: list[Part] = [Pictures(pictures)]
    chosen = "a dashed green line marks the checkpoint that a stage handed on; " if _outcomes(run) else ""
    parts.append(Text(f"Steps of all stages, one after another; {chosen}a dotted red line is where an alarm rings."))
    if rows := [_supervised_row(stage) for stage in run.stages if stage.learned]:
        header = (
            "stage",
            "steps",
            "context",
            "epochs",
            "loss",
            "validation",
            "held-out",
            "tokens learned",
            "handed on",
        )
        parts.append(Table(header, rows, "Supervised fine-tuning: losses in nats a token, and tokens learned"))
    if rows := [_stage_row(stage) for stage in run.stages if stage.metrics]:
        header = ("stage", "steps", "context", "temperature", "reward", "held-out", "tokens", "cut", "handed on")
        parts.append(Table(header, rows))
    parts += [Missing(f"{stage.name} has not finished a step yet.") for stage in run.stages if not stage.steps]
    if not any(stage.held_out for stage in run.stages):
        parts.append(Missing("There is no held-out accuracy: the recipe does not evaluate (evaluate_every = 0)."))
    return parts


def _outcomes(run: RunEvidence) -> bool:
    return any(stage.outcome for stage in run.stages)


def _stage_row(stage: StageEvidence) -> list[str]:
    first, last = stage.metrics[0], stage.metrics[-1]
    return [
        *_how_far(stage),
        f"{stage.resolved.temperature:g}" if stage.resolved else "?",
        f"{100 * first.reward:.1f} to {100 * last.reward:.1f}",
        _held_out(stage),
        f"{first.mean_tokens:,.0f} to {last.mean_tokens:,.0f}",
        f"{last.truncated_share:.1%}",
        _handed_on(stage),
    ]


def _supervised_row(stage: StageEvidence) -> list[str]:
    lines = stage.learned
    return [
        *_how_far(stage),
        f"{lines[-1].epoch:g}",
        _first_to_last([line.loss for line in lines]),
        _first_to_last([line.validation_loss for line in lines]),
        _held_out(stage),
        f"{sum(line.num_tokens for line in lines):,}",
        _handed_on(stage),
    ]


def _how_far(stage: StageEvidence) -> list[str]:
    last, resolved = stage.steps[-1], stage.resolved
    steps = f"{last.step}/{resolved.steps}" if resolved else str(last.step)
    return [stage.name, steps, f"{resolved.context:,}" if resolved else "?"]


def _held_out(stage: StageEvidence) -> str:
    found = next(iter(stage.held_out.values()), [])
    return f"{100 * found[0].value:.1f} to {100 * found[-1].value:.1f}" if found else ""


def _handed_on(stage: StageEvidence) -> str:
    return f"step {stage.outcome.chosen.step}" if stage.outcome else ""


def _first_to_last(losses: Sequence[float | None]) -> str:
    known = [loss for loss in losses if loss is not None]
    return f"{known[0]:.3f} to {known[-1]:.3f}" if len(known) > 1 else f"{known[0]:.3f}" if known else ""


def _difficulty_parts(run: RunEvidence) -> list[Part]:
    parts: list[Part] = []
    stages = run.reinforced
    if run.stages and not stages:
        return [Text("No stage trains on problems: every one learns from traces.")]
    selections = [("the first model", run.selection, stages[0].name if stages else "stage 1")]
    selections += [(before.name, stage.selection, stage.name) for before, stage in pairwise(stages)]
    for measured, selection, stage in selections:
        if selection is None:
            parts.append(Missing(f"No selection before {stage} is there yet."))
        else:
            parts += _selection_parts(measured, selection, stage)
    return parts


def _selection_parts(measured: str, selection: Selection, stage: str) -> list[Part]:
    shapes = {f"as {measured} solves them": selection.before, f"what {stage} trains on": selection.after}
    known = {name: shape for name, shape in shapes.items() if shape}
    top = max((count for shape in known.values() for count in shape.counts), default=0)
    warnings = [*(selection.after.warnings if selection.after else []), *selection.notes]
    unseen = selection.num_problems - (selection.before.num_problems if selection.before else 0)
    text = f"Before {stage}: {selection.num_kept:,} of {selection.num_problems:,} problems are kept."
    if unseen:
        text += f" {unseen:,} were never seen, stay, and are not in the pictures."
    pictures = [draw_histogram(name, shape.counts, top=top) for name, shape in known.items()]
    reasons = Table(("reason", "problems"), [(reason, f"{count:,}") for reason, count in selection.reasons.items()])
    return [Text(text), Pictures(pictures), reasons, *map(Warning, warnings)]


def _temperature_parts(run: RunEvidence) -> list[Part]:
    pictures: list[str] = []
    parts: list[Part] = []
    for stage in run.reinforced:
        search = stage.temperature
        if search is None:
            if stage.resolved:
                parts.append(Text(f"{stage.name}: {stage.resolved.temperature:g}, as given; nothing was searched."))
            else:
                parts.append(Missing(f"{stage.name}: no temperature is there yet."))
            continue
        pictures.append(draw_temperature(f"{stage.name}: temperature {search.temperature:.2f}", search.model_dump()))
        target = f", to reach {search.quantity} {search.target_diversity:.3f}" if search.target_diversity else ""
        rows = [
            [
                f"{point.temperature:.2f}",
                str(point.num_samples),
                _range(point.accuracy),
                _range(point.diversity),
                f"{point.truncated:.0%}",
                f"{point.mean_tokens:,.0f}",
            ]
            for point in search.curve
        ]
        header = ("temperature", "answers", "accuracy", search.quantity, "cut", "tokens")
        heading = f"{stage.name}: {search.temperature:.2f}{target}, from {search.sampled_tokens:,} sampled tokens"
        measured = [Text(f"{search.quantity}: {describe_measure(search.measure)}")] if search.measure else []
        parts.append(Fold(heading, [Text(search.reason), *measured, Table(header, rows)]))
        parts += [Warning(f"{stage.name}: {each}") for each in search.warnings]
    return [*([Pictures(pictures)] if pictures else []), *parts]


def _range(interval: object) -> str:
    value, low, high = (getattr(interval, name, None) for name in ("value", "low", "high"))
    return "" if value is None or low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def signal_parts(stages: Sequence[StageEvidence], names: Sequence[str]) -> list[Part]:
    """Return what became of all groups of each stage: which taught something, which were replaced or rescued."""
    rows = [_signal_row(stage, name) for stage, name in zip(stages, names, strict=True) if stage.metrics]
    if not rows:
        reinforced = any(stage.traces is None for stage in stages)
        return [
            Missing("No group was sampled yet.") if reinforced else Text("No stage samples: all learn from traces.")
        ]
    header = (
        "stage",
        "completions",
        "teach",
        "all wrong",
        "all right",
        "rescued",
        "rescue age",
        "gradient of rescued",
        "copies",
        "updates skipped",
    )
    text = (
        "Groups whose completions are all right or all wrong teach nothing, except where a teacher judges every token. "
        "Rescue puts an earlier correct answer into a group that is all wrong; substitution by copies fills the place "
        "of groups that teach nothing with others."
    )
    graded = [
        [name, *(f"{_outcome(stage, outcome):,}" for outcome in _outcome_names(stages))]
        for stage, name in zip(stages, names, strict=True)
        if stage.metrics
    ]
    outcomes = Table(
        ("stage", *(name.replace("_", " ") for name in _outcome_names(stages))), graded, "Grades of all completions"
    )
    return [Text(text), Table(header, rows), outcomes]


def _signal_row(stage: StageEvidence, name: str) -> list[str]:
    lines = stage.metrics
    ages = [(line.rescue_age, line.rescued_groups) for line in lines if line.rescue_age is not None]
    rescued = sum(line.rescued_groups for line in lines)
    age = sum(age * count for age, count in ages) / rescued if rescued and ages else None
    shares = [line.rescue_share for line in lines if line.rescue_share is not None]
    return [
        name,
        f"{sum(line.num_completions for line in lines):,}",
        "all, by a teacher"
        if stage.distillation
        else f"{sum(line.informative_share for line in lines) / len(lines):.0%} of groups",
        f"{sum(line.solved_none for line in lines):,}",
        f"{sum(line.solved_all for line in lines):,}",
        f"{rescued:,}",
        "" if age is None else f"{age:.1f} steps",
        f"{sum(shares) / len(shares):.1%}" if rescued and shares else "",
        f"{sum(line.copied_groups for line in lines):,}",
        f"{sum(line.skipped_updates for line in lines):,}",
    ]


def _outcome_names(stages: Sequence[StageEvidence]) -> list[str]:
    return list(dict.fromkeys(name for stage in stages for line in stage.metrics for name in line.outcomes))


def _outcome(stage: StageEvidence, name: str) -> int:
    return sum(line.outcomes.get(name, 0) for line in stage.metrics)


def _cost_parts(run: RunEvidence, steps: Sequence[RecipeStep]) -> list[Part]:
    tables = [step_costs(run, steps), phase_costs(run.stages, [stage.name for stage in run.stages])]
    parts: list[Part] = [table for table in tables if table]
    if not run.manifests:
        parts.append(Missing("No manifest says how long a step of the recipe took: they were typed, or none is done."))
    return parts


def _alarm_parts(run: RunEvidence) -> list[Part]:
    rows: list[list[str]] = []
    for stage in run.stages:
        rung: dict[str, list[tuple[int, str]]] = {}
        for line in stage.steps:
            for sentence in line.alarms:
                rung.setdefault(re.sub(r"[-+]?\d[\d.e+%-]*", "", sentence), []).append((line.step, sentence))
        for times in rung.values():
            steps = f"{times[0][0]} to {times[-1][0]}" if len(times) > 1 else str(times[0][0])
            rows.append([stage.name, str(len(times)), steps, times[-1][1]])
    if not rows:
        return [Text("None rang.") if any(stage.steps for stage in run.stages) else Missing("No step is finished yet.")]
    return [Table(("stage", "times", "steps", "the last time"), rows, words=("the last time",))]
