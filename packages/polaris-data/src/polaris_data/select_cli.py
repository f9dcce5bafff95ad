"""The command ``polaris-data select``."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from polaris_data.errors import ProblemFileError, SettingError
from polaris_data.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid, iterate

if TYPE_CHECKING:
    from polaris_data.records import Problem
    from polaris_data.rules import Evidence, Rule
    from polaris_data.select import Decision

_NUM_NOTES = 5
"""Unusable lines of a visit log that are shown; all of them are in ``decisions.json``."""


def select_command(
    problems: ProblemsArgument,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.", metavar="DIR", show_default=False)],
    profile: Annotated[
        Path | None, typer.Argument(metavar="[PROFILE]", help="What 'profile' wrote for them.", show_default=False)
    ] = None,
    visits: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead of PROFILE: a visit log of training; repeat it, oldest first.",
            metavar="FILE",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="'drop solved=always|never', 'accuracy above=X [by=mean|latest|certainty] [window=N] "
            "[min_visits=N] [certainty=P]', 'cap bin=K/N share=X' or 'shape target=mirrored-J'; repeat it, they are "
            "applied in order.  [default: drop solved=always; with --visits: accuracy above=0.9]",
            metavar="RULE",
        ),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML or JSON file of rules, or a decisions.json.", metavar="FILE")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses which problems a cap or a shape drops.")] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a visit log with lines that cannot be used.")
    ] = False,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Keep the problems that a model can still learn from.

    Reads PROBLEMS with their PROFILE and drops what the model solved every time (8/8); or with the --visits of
    training, and drops what it solved more than nine times of ten; or by other rules. Writes to DIR:
    selected.jsonl (the kept problems), decisions.json (in or out, and why, for each problem), selection.png and
    selection.html (before and after). Give the --limit and --skip-invalid that the profile was made with.

    \b
    Examples:
      polaris-data select train.jsonl train.profile.jsonl --out data
      polaris-data select train.jsonl train.profile.jsonl --rule drop --rule 'cap bin=0/8 share=0.3' --out data
      polaris-data select data/selected.jsonl --visits runs/r1/stage-1/visits.jsonl --out stage-2-data
    """
    from polaris_data.difficulty import check_recorded_problems, read_profile, unsettled_rules
    from polaris_data.journal import write_text
    from polaris_data.outputs import claim_output
    from polaris_data.problems import content_hash
    from polaris_data.progress import track
    from polaris_data.select import (
        attempts_of,
        count_reasons,
        decide,
        refuse_mismatch,
        selection_settings,
        write_decisions,
    )

    if (profile is None) == (not visits):
        raise SettingError("give either a PROFILE or --visits")
    chosen = _rules(rule or [], rules, by_visits=bool(visits))

    rows = iterate(problems, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
    problem_ids: list[str] = []
    notes: list[str] = []
    with _spool(out) as spool:
        problems_hash = content_hash(_copy(track(rows, total=limit, label="reading problems"), spool, problem_ids))
        if profile is not None:
            evidence: Evidence = attempts_of(read_profile(profile))
            refuse_mismatch(problem_ids, evidence.keys())
            check_recorded_problems(profile, problems_hash)
            notes = unsettled_rules(profile, chosen)
        else:
            evidence, notes = _read_visits(visits or [], set(problem_ids), strict=strict)
        decisions = decide(problem_ids, evidence, chosen, seed=seed)
        if not any(decision.kept for decision in decisions):
            raise ProblemFileError(
                f"no problem is left: {', '.join(count_reasons(decisions))}; choose rules that drop less"
            )
        claim_output(out / "selected.jsonl", selection_settings(problems_hash, evidence, rules=chosen, seed=seed))
        write_decisions(out, decisions, evidence=evidence, rules=chosen, seed=seed, notes=notes)
        spool.seek(0)
        kept = (line for line, decision in zip(spool, decisions, strict=True) if decision.kept)
        write_text(out / "selected.jsonl", kept)
    _print_summary(decisions, evidence, notes)
    print(f"\nwrote selected.jsonl, decisions.json, selection.png and selection.html to {out}")


def _spool(out: Path) -> IO[str]:
    """Open a nameless file on the disk of the output: problems wait there, so that the source is read once."""
    from tempfile import TemporaryFile

    folder = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.is_dir())
    return TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder)


def _copy(problems: "Iterable[Problem]", spool: IO[str], problem_ids: list[str]) -> "Iterator[Problem]":
    """Pass problems through, write them to a file, and add their ids to a list."""
    from polaris_data.problems import to_json_line

    for problem in problems:
        problem_ids.append(problem.problem_id)
        spool.write(to_json_line(problem))
        yield problem


def _rules(lines: Sequence[str], path: Path | None, *, by_visits: bool) -> "tuple[Rule, ...]":
    from polaris_data.rules import parse_rule, read_rules
    from polaris_data.select import PUBLISHED_FOR_PROFILES, PUBLISHED_FOR_VISITS

    if lines and path is not None:
        raise SettingError("give --rule or --rules, not both")
    if path is not None:
        return read_rules(path)
    return tuple(map(parse_rule, lines)) or (PUBLISHED_FOR_VISITS if by_visits else PUBLISHED_FOR_PROFILES)


def _read_visits(paths: Sequence[Path], problem_ids: set[str], *, strict: bool) -> "tuple[Evidence, list[str]]":
    """Return what the visits say about these problems, and what else there is to know about the log."""
    from polaris_data.visits import attempts_by_problem, read_visits

    log = read_visits(paths)
    if strict and (log.malformed or log.conflicts):
        raise ProblemFileError(
            f"{len(log.malformed) + len(log.conflicts)} lines cannot be used: {[*log.malformed, *log.conflicts][0]}; "
            "correct them, or leave out --strict to set them aside"
        )
    visited = attempts_by_problem(log.visits)
    evidence = {name: attempts for name, attempts in visited.items() if name in problem_ids}
    if not evidence:
        raise ProblemFileError(
            f"the visit log is of another problem set: none of its {len(visited):,} problems is here, "
            f"{next(iter(visited))!r} for one; give the problems of the stage (STAGE/problems.jsonl)"
        )
    notes = log.notes
    if elsewhere := len(visited) - len(evidence):
        notes.append(f"{elsewhere:,} visited problems are not in the problem set")
    return evidence, notes


def _print_summary(decisions: "Sequence[Decision]", evidence: "Evidence", notes: Sequence[str]) -> None:
    from polaris_data.select import count_reasons, histograms

    for note in notes[:_NUM_NOTES]:
        print(f"note: {note}", file=sys.stderr)
    if len(notes) > _NUM_NOTES:
        print(f"note: and {len(notes) - _NUM_NOTES} more; all are in decisions.json", file=sys.stderr)
    kept = {decision.problem_id for decision in decisions if decision.kept}
    print(f"{len(kept):,} of {len(decisions):,} problems are kept")
    for reason, count in count_reasons(decisions).items():
        print(f"{count:>9,}  {reason}")
    shapes = histograms(evidence, kept)
    for when, histogram in shapes.items():
        never, sometimes, always = histogram.shares
        print(
            f"{when}: {histogram.num_problems:,} problems, shape {histogram.shape}; "
            f"never solved {never:.1%}, sometimes {sometimes:.1%}, always {always:.1%}"
        )
    for warning in shapes["after"].warnings if "after" in shapes else []:
        print(f"warning: {warning}", file=sys.stderr)
