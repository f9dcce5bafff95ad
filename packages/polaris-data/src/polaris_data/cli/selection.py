"""The command ``polaris-data select``.

The command ``polaris-data show``.

The command ``polaris-data why``.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from polaris_data.cli.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid, iterate, read
from polaris_data.errors import ProblemFileError, SettingError

if TYPE_CHECKING:
    from polaris_data.profile.attempts import Evidence
    from polaris_data.records import Difficulty, Problem
    from polaris_data.selection.decisions import Decision
    from polaris_data.selection.rules import Rule


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
    from polaris_data.files.journal import claim_output, write_text
    from polaris_data.files.progress import track
    from polaris_data.problems.reading import content_hash
    from polaris_data.profile.files import check_recorded_problems, read_profile
    from polaris_data.selection.decisions import (
        attempts_of,
        count_reasons,
        decide,
        refuse_mismatch,
        selection_settings,
        write_decisions,
    )
    from polaris_data.selection.rules import unsettled_rules

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
    from polaris_data.problems.reading import to_json_line

    for problem in problems:
        problem_ids.append(problem.problem_id)
        spool.write(to_json_line(problem))
        yield problem


def _rules(lines: Sequence[str], path: Path | None, *, by_visits: bool) -> "tuple[Rule, ...]":
    from polaris_data.selection.decisions import PUBLISHED_FOR_PROFILES, PUBLISHED_FOR_VISITS
    from polaris_data.selection.rules import parse_rule, read_rules

    if lines and path is not None:
        raise SettingError("give --rule or --rules, not both")
    if path is not None:
        return read_rules(path)
    return tuple(map(parse_rule, lines)) or (PUBLISHED_FOR_VISITS if by_visits else PUBLISHED_FOR_PROFILES)


def _read_visits(paths: Sequence[Path], problem_ids: set[str], *, strict: bool) -> "tuple[Evidence, list[str]]":
    """Return what the visits say about these problems, and what else there is to know about the log."""
    from polaris_data.selection.visits import attempts_by_problem, read_visits

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
    from polaris_data.selection.decisions import count_reasons, histograms

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


def show_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE_OR_PROBLEMS", help="What 'profile' wrote, or any problem set.", show_default=False
        ),
    ],
    other: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PROFILE]", help="A later profile of the same problems: shows the shift.", show_default=False
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write a page that needs no other file.", metavar="FILE")
    ] = None,
    png: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write a picture.", metavar="FILE")] = None,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Show a difficulty profile as a histogram, the shift between two, or what a problem set holds.

    Reads one file, or two profiles, and writes nothing but --html and --png. The histogram counts problems by k of
    n answers correct and names its shape: mirrored-J (most are never solved: good to train on), J (most are always
    solved: too easy), U. Of two profiles it also shows how many problems moved from which k/n to which.

    \b
    Examples:
      polaris-data show train.profile.jsonl --png profile.png
      polaris-data show before.profile.jsonl after.profile.jsonl --html shift.html
      polaris-data show train.jsonl
    """
    from polaris_data.profile.files import is_profile, read_profile
    from polaris_data.view.terminal import describe_problems

    if other is not None:
        _show_shift(Path(source), other, html=html, png=png)
    elif is_profile(Path(source)):
        profile = read_profile(source)
        print_profile(profile)
        _draw_profile(Path(source).name, profile, html=html, png=png)
    elif html or png:
        raise ProblemFileError(f"{source} is no profile, of which --html and --png could draw a histogram")
    else:
        rows = read(source, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
        print(describe_problems(rows))


def print_profile(profile: "Sequence[Difficulty]") -> None:
    """Print the histogram of a profile and what can be learned from it."""
    from rich.console import Console

    from polaris_data.profile.adaptive import profile_histogram
    from polaris_data.view.terminal import describe_profile, histogram_table

    counts = profile_histogram(profile)
    Console(highlight=False).print(histogram_table(counts))
    print("\n" + describe_profile(counts, profile))


def _draw_profile(name: str, profile: "Sequence[Difficulty]", *, html: Path | None, png: Path | None) -> None:
    if not (html or png):
        return
    from polaris_data.profile.adaptive import profile_histogram
    from polaris_data.view.page import svg_part, table_part, text_part, write_page
    from polaris_data.view.plots import draw_histograms, write_png
    from polaris_data.view.terminal import describe_profile, histogram_rows

    counts = profile_histogram(profile)
    figure = draw_histograms({name: counts})
    if png:
        write_png(png, figure)
    if html:
        table = table_part(("solved", "problems", "share"), histogram_rows(counts))
        write_page(html, f"Difficulty: {name}", [text_part(describe_profile(counts, profile)), svg_part(figure), table])
    _print_written(html, png)


def _show_shift(first: Path, second: Path, *, html: Path | None, png: Path | None) -> None:
    from rich.console import Console

    from polaris_data.profile.adaptive import profile_histogram
    from polaris_data.profile.files import read_profile
    from polaris_data.profile.shift import shift
    from polaris_data.view.page import svg_part, text_part, write_page
    from polaris_data.view.plots import draw_shift, write_png
    from polaris_data.view.terminal import describe_shift, histogram_table, transition_table

    profiles = {_short_name(first, second): read_profile(first), _short_name(second, first): read_profile(second)}
    moved = shift(*profiles.values())
    shapes = {name: profile_histogram(profile) for name, profile in profiles.items()}
    console = Console(highlight=False)
    for name, counts in shapes.items():
        console.print(f"{name}:")
        console.print(histogram_table(counts))
        console.print()
    console.print(transition_table(moved))
    print("\n" + describe_shift(moved))
    if not (html or png):
        return
    figure = draw_shift(shapes, moved.transitions)
    if png:
        write_png(png, figure)
    if html:
        write_page(
            html, f"Difficulty shift: {' to '.join(profiles)}", [text_part(describe_shift(moved)), svg_part(figure)]
        )
    _print_written(html, png)


def _short_name(path: Path, other: Path) -> str:
    """Return the name of the file, or its whole path where both files have the same name."""
    return path.name if path.name != other.name else str(path)


def _print_written(*paths: Path | None) -> None:
    print(f"\nwrote {' and '.join(str(path) for path in paths if path)}")


def why_command(
    problem_id: Annotated[str, typer.Argument(metavar="PROBLEM_ID", help="Of any problem.", show_default=False)],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Run folders, data folders, or single files.  [default: this folder]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Tell the whole history of one problem.

    Reads every .jsonl file and decisions.json in the given folders and writes nothing. Shows where the problem comes
    from, its duplicates, how often it was solved, every decision about it with the reason, and its visits in each
    stage as a line from ▁ (never solved) to █ (always).

    \b
    Examples:
      polaris-data why synthetic-8a7f9b305fa6 runs/r1
      polaris-data why p-0f2c9a1b77de0c31 train.jsonl train.profile.jsonl data/decisions.json
    """
    from polaris_data.selection.history import history

    chapters = history(problem_id, paths or [Path()])
    print(problem_id)
    for chapter in chapters:
        print(f"\n{chapter.path}  ({chapter.kind})" if chapter.lines else f"\n{chapter.path}: not in this set")
        for line in chapter.lines:
            print(f"  {line}")
