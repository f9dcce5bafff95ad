"""What a stage takes of the problems that are left for it, which of them come with a hint, and why."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polaris_data import HINT, Problem
from polaris_data.profile import Evidence, read_profile
from polaris_data.selection import (
    Decision,
    Keep,
    Rule,
    attempts_by_problem,
    attempts_of,
    count_reasons,
    decide_by_columns,
    parse_rule,
    read_visits,
    write_decisions,
)

from polaris_train.errors import RunFolderError
from polaris_train.recipe import Recipe, Stage
from polaris_train.run_folder import RunFolder, StageFolder
from polaris_train.stage.hints import hints_for


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProblems:
    """The problems of a stage, with what was decided."""

    problems: list[Problem]
    """What it trains on; a hint stands among a problem's other columns."""

    decisions: list[Decision]
    """About all that were left for it."""

    rules: tuple[Rule, ...]
    """Of the stage."""

    evidence: Evidence
    """What was known of its problems."""

    def write(self, folder: Path, *, seed: int) -> None:
        """Write ``decisions.json`` and its pages."""
        write_decisions(folder, self.decisions, evidence=self.evidence, rules=self.rules, seed=seed)


def stage_problems(
    recipe: Recipe, stage: Stage, problems: Sequence[Problem], *, run: RunFolder
) -> StageProblems | None:
    """Apply a stage's own rules, and give hints; ``None`` where it has neither.

    Later stages' rules by column are tried, too: a mistake in them is found before anything is trained.

    Args:
        recipe: The whole recipe.
        stage: One of its stages.
        problems: That are left for it.
        run: Holds what earlier stages saw, and the profile.

    Raises:
        RunFolderError: If a rule asks for what was not measured, or too few problems for a step are left.
        DataError: If a rule names a column that no problem has, or evidence cannot be read.
    """
    place = recipe.stages.index(stage)
    for index, later in enumerate(recipe.stages[place:], place):
        rules = _rules(later) if isinstance(later, Stage) else ()
        _apply(recipe, index, [rule for rule in rules if isinstance(rule, Keep)], problems, {})
    rules = _rules(stage)
    if not rules and not stage.hint_share:
        return None
    profile, seen = _known(run, [run.stage(each.name) for each in recipe.stages[:place]])
    known = {**profile, **seen}
    evidence = {each.problem_id: known[each.problem_id] for each in problems if each.problem_id in known}
    asks = [rule.reason for rule in rules if not isinstance(rule, Keep)] + ["hint_share"] * bool(stage.hint_share)
    if asks and not evidence:
        raise RunFolderError(
            f"stages.{place}: {asks[0]!r} asks how often problems were solved, but nothing is known of these: there is "
            f"no {run.profile}, and no stage before has visited them; give 'polaris run' a data.select, or make it "
            f"with polaris-data profile PROBLEMS --out {run.profile}"
        )
    decisions = _apply(recipe, place, rules, problems, evidence)
    kept = {each.problem_id for each in decisions if each.kept}
    chosen = [problem for problem in problems if problem.problem_id in kept]
    if stage.hint_share:
        unsolved = [
            each for each in chosen if each.problem_id in evidence and not _solved(each.problem_id, profile, seen)
        ]
        chosen, reasons = _with_hints(chosen, unsolved, stage.hint_share)
        decisions = [replace(each, reason=reasons.get(each.problem_id, each.reason)) for each in decisions]
    return StageProblems(problems=chosen, decisions=decisions, rules=rules, evidence=evidence)


def _rules(stage: Stage) -> tuple[Rule, ...]:
    return tuple(map(parse_rule, stage.select))


def _apply(
    recipe: Recipe, index: int, rules: Sequence[Rule], problems: Sequence[Problem], evidence: Evidence
) -> list[Decision]:
    """Decide about the problems of a stage, and refuse too few."""
    decisions = decide_by_columns(problems, evidence, rules, seed=recipe.seed)
    num_kept = sum(each.kept for each in decisions)
    if rules and num_kept < recipe.prompts_per_step:
        counts = ", ".join(f"{count} {reason!r}" for reason, count in count_reasons(decisions).items())
        raise RunFolderError(
            f"stages.{index}.select leaves {num_kept} of {len(decisions)} problems ({counts}), but prompts_per_step is "
            f"{recipe.prompts_per_step}; choose rules that keep more, or lower prompts_per_step"
        )
    return decisions


def _known(run: RunFolder, earlier: Sequence[StageFolder]) -> tuple[Evidence, Evidence]:
    """Return what the profile says of each problem, and what the stages before saw of those that they visited."""
    profile = attempts_of(read_profile(run.profile)) if run.profile.is_file() else {}
    logs = [stage.visits for stage in earlier if stage.visits.is_file()]
    return profile, attempts_by_problem(read_visits(logs).visits) if logs else {}


def _solved(name: str, *evidence: Evidence) -> bool:
    """Return whether a problem was ever solved, be it long ago, without a hint."""
    return any(attempt.num_correct for each in evidence for attempt in each.get(name, ()))


def _with_hints(
    problems: Sequence[Problem], unsolved: Sequence[Problem], share: float
) -> tuple[list[Problem], dict[str, str]]:
    """Return the problems, those that were never solved with a hint, and what became of each of these."""
    hints = hints_for(unsolved, share)
    reasons: dict[str, str] = {}
    for problem in unsolved:
        hint = hints.get(problem.problem_id)
        if hint is None:
            what = "without a solution to take a hint from"
        elif not hint.text:
            what = "no hint, since its solution soon says the answer"
        else:
            what = f"hint of the first {share:.0%} of its solution" + (", cut before the answer" if hint.cut else "")
        reasons[problem.problem_id] = f"never solved; {what}"
    texts = {name: hint.text for name, hint in hints.items() if hint.text}
    return [_with_hint(each, texts.get(each.problem_id)) for each in problems], reasons


def _with_hint(problem: Problem, hint: str | None) -> Problem:
    extra = {name: value for name, value in problem.extra.items() if name != HINT}
    return replace(problem, extra=extra if hint is None else {**extra, HINT: hint})
