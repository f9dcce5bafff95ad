"""Selection: which problems a model still learns from, and why each one is in or out.

The published rule for a profile drops what was solved in 8 of 8 attempts and keeps what was never solved; between
stages what was solved more than nine times of ten is dropped. Both are data, see `polaris_data.selection.rules`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import write_text
from polaris_data.problems.reading import write_problems
from polaris_data.profile.adaptive import profile_histogram
from polaris_data.profile.attempts import Attempt, Evidence, bin_of, pool, resolution
from polaris_data.profile.shape import Histogram
from polaris_data.records import Difficulty, Problem, Visit
from polaris_data.selection.keeping import ColumnsAsked, ColumnValues, Keep
from polaris_data.selection.reading import to_data
from polaris_data.selection.rules import Accuracy, Difference, Extreme, Rule, Truncation
from polaris_data.selection.visits import attempts_by_problem

PUBLISHED_FOR_PROFILES: tuple[Rule, ...] = (Extreme(),)
"""What was solved in 8 of 8 attempts is dropped, what was never solved is kept."""

PUBLISHED_FOR_VISITS: tuple[Rule, ...] = (Accuracy(above=0.9),)
"""What was solved more than nine times of ten in the stage is dropped before the next."""

KEPT = "no rule drops it"
"""The reason of what was measured and is in."""

NOT_VISITED = "never visited"
"""The reason of what is in because nothing is known about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether one problem is kept, and why."""

    problem_id: str
    """Of the problem set."""

    kept: bool
    """Whether it stays."""

    reason: str
    """The rule that decided; the same words for every problem that it decided."""


def select(
    problems: Iterable[Problem],
    profile: Iterable[Difficulty],
    *,
    rules: Sequence[Rule] = PUBLISHED_FOR_PROFILES,
    seed: int = 0,
) -> list[Decision]:
    """Decide about every problem by its measured difficulty.

    Args:
        problems: Problems with distinct ids.
        profile: Difficulty of every one of them, and of no other, in any order.
        rules: Applied in order, each to what those before it have left.
        seed: Chooses which problems go where a rule takes some of many.

    Returns:
        One decision for each problem, in their order.

    Raises:
        ProblemFileError: If the profile lacks a problem, or is of another problem set.
    """
    problems, evidence = list(problems), attempts_of(profile)
    refuse_mismatch([problem.problem_id for problem in problems], evidence.keys())
    return decide_by_columns(problems, evidence, rules, seed=seed)


def select_by_visits(
    problems: Iterable[Problem],
    visits: Iterable[Visit],
    *,
    rules: Sequence[Rule] = PUBLISHED_FOR_VISITS,
    seed: int = 0,
) -> list[Decision]:
    """Decide about every problem by what training saw of it; one that was never visited is kept.

    Args:
        problems: Problems with distinct ids.
        visits: Of these problems or others, oldest first.
        rules: Applied in order, each to what those before it have left.
        seed: Chooses which problems go where a rule takes some of many.

    Returns:
        One decision for each problem, in their order.

    References:
        An et al., "POLARIS: A Post-training recipe for scaling reinforcement learning on advanced reasoning
        models", 2025. https://hkunlp.github.io/blog/2025/Polaris
    """
    return decide_by_columns(list(problems), attempts_by_problem(visits), rules, seed=seed)


def decide_by_columns(
    problems: Sequence[Problem], evidence: Evidence, rules: Sequence[Rule], *, seed: int
) -> list[Decision]:
    """Return what `decide` does about problems that are at hand, columns and all.

    Raises:
        SettingError: If a rule names a column that no problem has.
    """
    asked = ColumnsAsked(rules)
    for problem in problems:
        asked.add(problem)
    asked.check()
    return decide([each.problem_id for each in problems], evidence, rules, seed=seed, columns=asked.values)


def decide(
    problem_ids: Iterable[str],
    evidence: Evidence,
    rules: Sequence[Rule],
    *,
    seed: int,
    columns: ColumnValues | None = None,
) -> list[Decision]:
    """Apply rules to the problems that there is evidence of, and to all of them those that ask for none.

    Args:
        problem_ids: Distinct.
        evidence: Of these problems or others.
        rules: Applied in order, each to what those before it have left.
        seed: Chooses which problems go where a rule takes some of many.
        columns: What every problem has in the columns that rules name.
    """
    problem_ids = list(problem_ids)
    unseen = KEPT if rules and all(isinstance(rule, Keep) for rule in rules) else NOT_VISITED
    reasons = {problem_id: KEPT if problem_id in evidence else unseen for problem_id in problem_ids}
    left, unmeasured = {each: evidence[each] for each in problem_ids if each in evidence}, dict(reasons)
    for known in left:
        del unmeasured[known]
    for rule in rules:
        if isinstance(rule, Keep):
            dropped = rule.dropped([*left, *unmeasured], columns or {})
        else:
            dropped = rule.dropped(left, seed=seed)
        for problem_id in dropped:
            reasons[problem_id] = rule.reason
            (left if problem_id in left else unmeasured).pop(problem_id)
    return [
        Decision(problem_id=problem_id, kept=problem_id in left or problem_id in unmeasured, reason=reason)
        for problem_id, reason in reasons.items()
    ]


def attempts_of(profile: Iterable[Difficulty]) -> dict[str, Sequence[Attempt]]:
    """Return a profile as evidence: one attempt at each problem."""
    shared: dict[tuple[int, int, int], Sequence[Attempt]] = {}  # a million problems have a few different results
    evidence: dict[str, Sequence[Attempt]] = {}
    for each in profile:
        counts = each.num_samples, each.num_correct, each.num_truncated
        evidence[each.problem_id] = shared.setdefault(counts, (Attempt(*counts),))
    return evidence


def count_reasons(decisions: Iterable[Decision]) -> dict[str, int]:
    """Count the decisions by reason, the kept ones first; the counts add up to the number of problems."""
    counts = Counter((not decision.kept, decision.reason) for decision in decisions)
    return {reason: counts[dropped, reason] for dropped, reason in sorted(counts)}


def histograms(evidence: Evidence, kept: Collection[str]) -> dict[str, Histogram]:
    """Return the histogram of all problems that there is evidence of, ``before``, and of the kept ones, ``after``.

    Visits to a problem are added up and put into the nearest bin; for a profile with unequal numbers of samples see
    `polaris_data.profile.adaptive.expected_histogram`. A histogram of no problem is left out.
    """
    if _is_uneven_profile(evidence):
        whole = _as_profile(evidence)
        part = [each for each in whole if each.problem_id in kept]
        return {"before": profile_histogram(whole)} | (
            {"after": profile_histogram(part, part_of=whole)} if part else {}
        )
    if not evidence:
        return {}
    n = resolution(evidence)
    groups = {
        "before": Counter(map(tuple, evidence.values())),
        "after": Counter(tuple(attempts) for name, attempts in evidence.items() if name in kept),
    }
    return {when: Histogram(_count_bins(group, n)) for when, group in groups.items() if group}


def selection_settings(
    problems_hash: str, evidence: Evidence, *, rules: Sequence[Rule], seed: int, columns: ColumnValues | None = None
) -> dict[str, Any]:
    """Return everything that a selection depends on: what `polaris_data.files.journal.claim_output` records.

    Args:
        problems_hash: As `polaris_data.problems.reading.content_hash` gives it.
        evidence: In any order.
        rules: In their order.
        seed: Of the choices among many.
        columns: Of the problems, as far as rules name them.
    """
    digest = hashlib.sha256()
    num_counts = 2  # More only where a rule asks, so that a selection of before can be repeated.
    if any(isinstance(rule, Truncation) for rule in rules):
        num_counts = 3
    if any(isinstance(rule, Difference) for rule in rules):
        num_counts = 4
    for problem_id in sorted(evidence):
        digest.update(repr((problem_id, [attempt[:num_counts] for attempt in evidence[problem_id]])).encode())
    for name, values in sorted((columns or {}).items()):
        digest.update(repr((name, sorted(values.items()))).encode())
    return {
        "command": "polaris-data select",
        "problems": problems_hash,
        "evidence": digest.hexdigest()[:16],
        "rules": [to_data(rule) for rule in rules],
        "seed": seed,
    }


def write_selection(
    folder: Path,
    problems: Iterable[Problem],
    decisions: Sequence[Decision],
    *,
    evidence: Evidence,
    rules: Sequence[Rule],
    seed: int = 0,
    notes: Sequence[str] = (),
) -> None:
    """Write what `write_decisions` does, and last ``selected.jsonl``, the kept problems.

    Args:
        folder: Created when missing.
        problems: What was decided about.
        decisions: About these problems.
        evidence: What the decisions are based on.
        rules: Recorded in ``decisions.json``.
        seed: Recorded with them.
        notes: What else should be known, such as lines of a log that could not be read.
    """
    write_decisions(folder, decisions, evidence=evidence, rules=rules, seed=seed, notes=notes)
    kept = {decision.problem_id for decision in decisions if decision.kept}
    write_problems(folder / "selected.jsonl", (problem for problem in problems if problem.problem_id in kept))


def write_decisions(
    folder: Path,
    decisions: Sequence[Decision],
    *,
    evidence: Evidence,
    rules: Sequence[Rule],
    seed: int = 0,
    notes: Sequence[str] = (),
) -> None:
    """Write ``decisions.json``, why each problem is in or out, and before and after as ``selection.png`` and ``.html``.

    The arguments are those of `write_selection`.
    """
    from polaris_data.view.page import write_selection_page
    from polaris_data.view.plots import draw_histograms, write_png

    kept = {decision.problem_id for decision in decisions if decision.kept}
    shapes = histograms(evidence, kept)
    summary = {
        "rules": [to_data(rule) for rule in rules],
        "seed": seed,
        "num_problems": len(decisions),
        "num_kept": len(kept),
        "reasons": count_reasons(decisions),
        **{when: histogram.to_data() for when, histogram in shapes.items()},
        "notes": list(notes),
    }
    figure = draw_histograms(shapes) if shapes else None
    if figure is not None:
        write_png(folder / "selection.png", figure)
    write_selection_page(folder / "selection.html", figure, summary)
    write_text(folder / "decisions.json", _decision_lines(summary, decisions))


def refuse_mismatch(wanted: Iterable[str], profiled: Collection[str]) -> None:
    """Compare problem ids with those of a profile.

    Raises:
        ProblemFileError: If they are not the same.
    """
    wanted = set(wanted)
    if other := sorted(set(profiled) - wanted):
        raise ProblemFileError(
            f"the profile is of another problem set: {len(other)} of its problems are not here, {other[0]!r} for "
            "one; give the problems (and the --limit) that were profiled"
        )
    if missing := sorted(wanted - set(profiled)):
        raise ProblemFileError(
            f"{len(missing)} of {len(wanted)} problems have no profile, {missing[0]!r} for one; profile them all, "
            "or give the --limit that the profile was made with"
        )


def _count_bins(group: Counter[tuple[Attempt, ...]], n: int) -> tuple[int, ...]:
    """Return [n + 1] how many problems fall into each bin, from how many had the same attempts."""
    counts = [0] * (n + 1)
    for attempts, count in group.items():
        counts[bin_of(pool(attempts), n)] += count
    return tuple(counts)


def _is_uneven_profile(evidence: Evidence) -> bool:
    return all(len(attempts) == 1 for attempts in evidence.values()) and (
        len({attempts[0].num_samples for attempts in evidence.values()}) > 1
    )


def _as_profile(evidence: Evidence) -> list[Difficulty]:
    return [
        Difficulty(
            problem_id=problem_id,
            num_samples=attempt.num_samples,
            num_correct=attempt.num_correct,
            num_truncated=attempt.num_truncated,
            mean_tokens=None,
        )
        for problem_id, (attempt,) in evidence.items()
    ]


def _decision_lines(summary: Mapping[str, Any], decisions: Sequence[Decision]) -> Iterator[str]:
    """Yield one JSON document with a line for each decision."""
    yield json.dumps(summary, indent=2, ensure_ascii=False).removesuffix("\n}") + ',\n  "decisions": ['
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for number, decision in enumerate(decisions):
        record = {"problem_id": decision.problem_id, "kept": decision.kept, "reason": decision.reason}
        yield f"{',' if number else ''}\n    {encode(record)}"
    yield "\n  ]\n}\n"
