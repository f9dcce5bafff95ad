"""Selecting from files: problems with their profile, or with the visits of training, to a folder of what is kept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from polaris_data.errors import ProblemFileError, SettingError
from polaris_data.files.journal import claim_output, write_text
from polaris_data.files.progress import track
from polaris_data.problems.reading import content_hash, to_json_line
from polaris_data.problems.source import Source
from polaris_data.profile.attempts import Evidence
from polaris_data.profile.files import check_recorded_problems, read_profile
from polaris_data.records import Problem
from polaris_data.selection.decisions import (
    PUBLISHED_FOR_PROFILES,
    PUBLISHED_FOR_VISITS,
    Decision,
    attempts_of,
    count_reasons,
    decide,
    refuse_mismatch,
    selection_settings,
    write_decisions,
)
from polaris_data.selection.keeping import ColumnsAsked, Keep
from polaris_data.selection.reach import rules_out_of_reach, unsettled_rules
from polaris_data.selection.rules import Rule
from polaris_data.selection.visits import attempts_by_problem, read_visits


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was decided, and what it is based on."""

    decisions: Sequence[Decision]
    """One for each problem, in their order."""

    evidence: Evidence
    """What was measured of these problems."""

    notes: Sequence[str]
    """What else should be known, such as lines of a log that cannot be used."""

    @property
    def kept(self) -> set[str]:
        """Ids of the problems that stay."""
        return {decision.problem_id for decision in self.decisions if decision.kept}


def select_problems(
    source: Source,
    out: Path,
    *,
    profile: Path | None = None,
    visits: Sequence[Path] = (),
    rules: Sequence[Rule] = (),
    seed: int = 0,
    strict: bool = False,
) -> Selection:
    """Decide about every problem of a set and write what `polaris_data.selection.decisions.write_selection` does.

    The set is never held: a copy of it waits on the disk of the output.

    Args:
        source: The set; read once.
        out: Folder to write.
        profile: Of these problems.
        visits: In its place, visit logs of training, oldest first.
        rules: Applied in order; without any the published one.
        seed: Chooses which problems go where a rule takes some of many.
        strict: Refuse a visit log with lines that cannot be used.

    Raises:
        SettingError: If there are both a profile and visits, or neither though a rule asks for one, or a rule names a
            column that no problem has.
        ProblemFileError: If a file cannot be used, is of other problems, or no problem is left.
        OtherRunError: If the folder belongs to a run with other settings.
    """
    by_columns = bool(rules) and all(isinstance(rule, Keep) for rule in rules)
    if (profile is not None and visits) or (profile is None and not visits and not by_columns):
        raise SettingError("give either a PROFILE or --visits")
    rules = rules or (PUBLISHED_FOR_VISITS if visits else PUBLISHED_FOR_PROFILES)
    problem_ids: list[str] = []
    columns, notes = ColumnsAsked(rules), list[str]()
    with _spool(out) as spool:
        problems = track(source.iterate(), total=source.limit, label="reading problems")
        problems_hash = content_hash(_copy(problems, spool, problem_ids, columns))
        if profile is not None:
            evidence: Evidence = attempts_of(read_profile(profile))
            refuse_mismatch(problem_ids, evidence.keys())
            check_recorded_problems(profile, problems_hash)
            notes = unsettled_rules(profile, rules)
        elif not visits:
            evidence = {}
        else:
            evidence, notes = _read_visits(visits, set(problem_ids), strict=strict)
        notes = [*notes, *columns.check(), *rules_out_of_reach(evidence, rules)]
        decisions = decide(problem_ids, evidence, rules, seed=seed, columns=columns.values)
        if not any(decision.kept for decision in decisions):
            raise ProblemFileError(
                f"no problem is left: {', '.join(count_reasons(decisions))}; choose rules that drop less"
            )
        settings = selection_settings(problems_hash, evidence, rules=rules, seed=seed, columns=columns.values)
        claim_output(out / "selected.jsonl", settings)
        write_decisions(out, decisions, evidence=evidence, rules=rules, seed=seed, notes=notes)
        spool.seek(0)
        kept = (line for line, decision in zip(spool, decisions, strict=True) if decision.kept)
        write_text(out / "selected.jsonl", kept)
    return Selection(decisions=decisions, evidence=evidence, notes=notes)


def _spool(out: Path) -> IO[str]:
    """Open a nameless file on the disk of the output: problems wait there, so that the source is read once."""
    folder = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.is_dir())
    return TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder)


def _copy(
    problems: Iterable[Problem], spool: IO[str], problem_ids: list[str], columns: ColumnsAsked
) -> Iterator[Problem]:
    """Pass problems through, write them to a file, add their ids to a list, and note what rules ask for."""
    for problem in problems:
        columns.add(problem)
        problem_ids.append(problem.problem_id)
        spool.write(to_json_line(problem))
        yield problem


def _read_visits(paths: Sequence[Path], problem_ids: set[str], *, strict: bool) -> tuple[Evidence, list[str]]:
    """Return what the visits say about these problems, and what else there is to know about the log."""
    log = read_visits(paths)
    if strict and (log.malformed or log.conflicts):
        raise ProblemFileError(
            f"{len(log.malformed) + len(log.conflicts)} lines cannot be used: {[*log.malformed, *log.conflicts][0]}; "
            "correct them, or leave out --strict to set them aside"
        )
    visited = dict.fromkeys(visit.problem_id for visit in log.visits)
    if problem_ids.isdisjoint(visited):
        raise ProblemFileError(
            f"the visit log is of another problem set: none of its {len(visited):,} problems is here, "
            f"{next(iter(visited))!r} for one; give the problems of the stage (STAGE/problems.jsonl)"
        )
    attempts = attempts_by_problem(log.visits)
    evidence = {problem_id: each for problem_id, each in attempts.items() if problem_id in problem_ids}
    notes = log.notes
    if elsewhere := len(visited.keys() - problem_ids):
        notes.append(f"{elsewhere:,} visited problems are not in the problem set")
    return evidence, notes
