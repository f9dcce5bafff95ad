"""The steps of a recipe, and what each of them decided in this run."""

from collections.abc import Callable, Iterator

from polaris_train.recipe import Recipe
from polaris_train.recipe.curriculum import Curriculum
from polaris_train.report.evidence import EVALUATIONS, RunEvidence, StageEvidence
from polaris_train.report.records import Interval, Selection
from polaris_train.report.steps import RecipeStep, recipe_step
from polaris_train.report.training import supervised_step, traces_step, train_step


def recipe_steps(run: RunEvidence) -> list[RecipeStep]:
    """Return every step of the run's recipe in its order."""
    steps = [
        _counted(run, "import", "imported", "problems of all sources"),
        _counted(run, "check", "checked", "have references that can be graded", before="imported"),
        _dedup(run),
        _decontaminate(run),
        _split(run),
        _profile(run),
        _select(run, "select", run.selection),
    ]
    for stage in run.stages:
        prefix = f"{stage.name}: " if len(run.stages) > 1 else ""
        if stage.traces is not None:
            steps += [traces_step(run, stage, stage.traces, prefix), supervised_step(run, stage, prefix)]
            continue
        if stage is not run.reinforced[0]:
            steps.append(_select(run, f"{stage.name}.drop", stage.selection, prefix=prefix, stage=stage))
        steps += [*_curriculum(run, stage, prefix), _temperature(run, stage, prefix), train_step(run, stage, prefix)]
    return [*steps, *(step for name in EVALUATIONS if (step := _evaluation(run, name)))]


def with_interval(value: Interval | None, digits: int = 2) -> str:
    """Return a value as text: ``1.20 [1.10, 1.32]``."""
    if value is None:
        return "?"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _table(run: RunEvidence, says: Callable[[Recipe], bool], why: str) -> str | None:
    """Return why a step is skipped, if the recipe says so."""
    return why if run.recipe is not None and says(run.recipe) else None


def _counted(run: RunEvidence, key: str, count: str, what: str, *, before: str | None = None) -> RecipeStep:
    after, first = run.counts[count], run.counts[before] if before else None
    of = f" of {first:,}" if first is not None else ""
    found = [f"{reason} ({count:,})" for reason, count in run.set_aside[key].items()]
    more = f"; {'set aside' if before is None else 'found'}: {', '.join(found)}" if found else ""
    return recipe_step(
        run, key, key, None if after is None else f"{after:,}", lambda: f"{after or 0:,}{of} {what}{more}"
    )


def _dedup(run: RunEvidence) -> RecipeStep:
    after, before = run.counts["dedup"], run.counts["checked"]
    return recipe_step(
        run,
        "dedup",
        "dedup",
        None if after is None else f"{after:,}",
        lambda: f"{after or 0:,} stay; {_lost(before, after)} repeat another problem",
        skipped=_table(run, lambda recipe: not recipe.data.dedup, "the recipe keeps duplicates (data.dedup = false)"),
    )


def _decontaminate(run: RunEvidence) -> RecipeStep:
    after = run.counts["clean"]
    before = next((run.counts[name] for name in ("dedup", "checked") if run.counts[name] is not None), None)
    against = run.recipe.data.decontaminate if run.recipe else None
    if against is None and run.recipe:
        against = run.recipe.evaluation.benchmarks
    return recipe_step(
        run,
        "decontaminate",
        "decontaminate",
        None if after is None else f"{after:,}",
        lambda: f"{after or 0:,} stay; {_lost(before, after)} found in a benchmark ({', '.join(against or ()) or '?'})",
        skipped=_table(run, lambda _: not against, "the recipe names nothing to decontaminate against"),
    )


def _split(run: RunEvidence) -> RecipeStep:
    training, held_out = run.counts["train"], run.counts["held-out"]
    result = None if training is None or held_out is None else f"{training:,} + {held_out:,}"
    return recipe_step(
        run,
        "split",
        "split",
        result,
        lambda: f"{training or 0:,} problems to train on, {held_out or 0:,} held out: never trained on",
    )


def _profile(run: RunEvidence) -> RecipeStep:
    samples = sum(each.num_samples for each in run.profile)
    share = sum(each.num_correct for each in run.profile) / max(samples, 1)
    return recipe_step(
        run,
        "profile",
        "profile",
        f"{share:.1%} solved" if run.profile else None,
        lambda: f"the first model solves {share:.1%} of {samples:,} attempts at {len(run.profile):,} problems",
    )


def _select(
    run: RunEvidence,
    key: str,
    selection: Selection | None,
    *,
    prefix: str = "",
    stage: StageEvidence | None = None,
) -> RecipeStep:
    skipped = _table(run, lambda recipe: not recipe.data.drop, "the recipe drops nothing between stages")
    name = f"{prefix}drop mastered" if stage else "select"
    if selection is None:
        return recipe_step(run, key, name, None, str, skipped=skipped if stage else None)
    dropped = {each.reason for each in selection.decisions if not each.kept}
    reasons = [f"{reason} ({count:,})" for reason, count in selection.reasons.items() if reason in dropped]
    shapes = [each.shape for each in (selection.before, selection.after) if each]
    shape = f"; the histogram's shape: {' before, '.join(shapes)} after" if len(set(shapes)) == 2 else ""

    def sentence() -> str:
        return (
            f"{selection.num_kept:,} of {selection.num_problems:,} stay; dropped: {', '.join(reasons) or 'none'}{shape}"
        )

    return recipe_step(run, key, name, f"{selection.num_kept:,} stay", sentence)


def _curriculum(run: RunEvidence, stage: StageEvidence, prefix: str) -> Iterator[RecipeStep]:
    """Yield what a stage takes of its problems, with hints, and what it samples beside or again; if it has such."""
    planned = next((each for each in (run.recipe.stages if run.recipe else ()) if each.name == stage.name), None)
    rules = next((each for each in (stage.resolved, planned) if isinstance(each, Curriculum)), None)
    if rules is None or not any(getattr(rules, name) for name in Curriculum.model_fields):
        return
    said: list[str] = []
    if found := stage.curriculum:
        said.append(f"{found.num_kept:,} of {found.num_problems:,} are trained on")
        said += [f"{count:,}: {reason}" for reason, count in found.reasons.items()]
    if rules.revisit_below:
        said.append(f"what is solved in less than {rules.revisit_below:.0%} of a pass comes once more after it")
    if rules.refill_below:
        counts = [line.refilled_groups for line in stage.metrics if line.refilled_groups]
        said.append(
            f"{sum(counts):,} groups were sampled beside the planned ones, in {len(counts):,} of "
            f"{len(stage.metrics):,} steps, since less than {rules.refill_below:.0%} were informative"
        )
    yield recipe_step(
        run,
        f"{stage.name}.curriculum",
        f"{prefix}curriculum",
        None if stage.resolved is None else f"{stage.curriculum.num_kept:,} stay" if stage.curriculum else "all stay",
        lambda: "; ".join(said),
    )


def _temperature(run: RunEvidence, stage: StageEvidence, prefix: str) -> RecipeStep:
    key, name, search = f"{stage.name}.temperature", f"{prefix}temperature", stage.temperature
    if search is None:
        fixed = stage.resolved.temperature if stage.resolved else _planned_temperature(run, stage.name)
        return recipe_step(
            run,
            key,
            name,
            f"{fixed:g}" if isinstance(fixed, float) else None,
            lambda: f"{fixed:g}, as the recipe says; nothing was searched",
        )
    zones = search.zones

    def sentence() -> str:
        used = stage.resolved.temperature if stage.resolved else search.temperature
        other = f"; the stage was given {used:g}" if used != search.temperature else ""
        collapse = with_interval(zones.collapse) if zones.collapse else "beyond what was probed"
        return (
            f"{search.temperature:.2f}: {search.reason}; {search.quantity} there {with_interval(search.diversity)}, "
            f"exploration starts at {with_interval(zones.exploration)}, collapse at {collapse}{other}"
        )

    return recipe_step(run, key, name, f"{search.temperature:.2f}", sentence)


def _planned_temperature(run: RunEvidence, name: str) -> float | str | None:
    stages = run.recipe.stages if run.recipe else ()
    return next((stage.temperature for stage in stages if stage.name == name), None)


def _evaluation(run: RunEvidence, name: str) -> RecipeStep | None:
    scores = run.evaluations.get(name)
    key = f"evaluate.{name}"
    if scores is None and name == "yarn" and not (run.recipe and run.recipe.uses_yarn):
        return None
    values = [(each.benchmark, each.score("mean@k")) for each in scores.evaluations] if scores else []
    return recipe_step(
        run,
        key,
        "evaluate: YaRN" if name == "yarn" else f"evaluate: {EVALUATIONS[name]}",
        ", ".join(f"{100 * score.value:.1f}" for _, score in values) if scores else None,
        lambda: "; ".join(
            f"{benchmark} mean@{score.k} {100 * score.value:.1f} "
            f"[{100 * score.interval[0]:.1f}, {100 * score.interval[1]:.1f}]"
            for benchmark, score in values
        ),
        skipped=_table(run, lambda recipe: not recipe.evaluation.benchmarks, "the recipe names no benchmark"),
    )


def _lost(before: int | None, after: int | None) -> str:
    return "?" if before is None or after is None else f"{before - after:,}"
