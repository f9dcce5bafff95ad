"""The command ``polaris-data import``.

The command ``polaris-data export``.

The command ``polaris-data synthetic``.

The command ``polaris-data check``.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polaris_data.cli.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid
from polaris_data.errors import MissingExtraError, OtherRunError, SettingError

if TYPE_CHECKING:
    from polaris_data.problems.check import Finding
    from polaris_data.records import Problem


def import_command(
    out: Annotated[Path, typer.Option(dir_okay=False, help="Problem file to write (.jsonl).", show_default=False)],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Files (.jsonl, .json, .csv, .parquet), folders or Hub ids (OWNER/NAME[:CONFIG]); none with --from: "
            "the data set on the Hub.",
            show_default=False,
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="A published data set: deepscaler, areal-boba, skywork-or1, polaris-53k, math, gsm8k or dapo-17k. "
            "SOURCE is then a local copy of it.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD=COLUMN,...",
            help="Columns of your own file: question=TEXT,references=ANS,id=KEY,source=ORIGIN, as many as differ.",
        ),
    ] = None,
    ids: Annotated[
        Literal["own", "content", "prefixed"],
        typer.Option(help="Ids of the source if it has any; from the content; or own ones after the source's name."),
    ] = "own",
    limit: Limit = None,
    split: Annotated[
        str | None, typer.Option(help="Split of folders and Hub data sets.  [default: train]", show_default=False)
    ] = None,
    revision: Revision = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse instead of setting rows aside.")] = False,
    profile_out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Also write published pass rates ('difficulty': '3/8') as a profile.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Turn raw data sets into one file of problems.

    Reads every SOURCE and writes to --out one problem a line: id, question, references (the accepted answers,
    without dollars, boxes and '.0'), source and every other column. Proofs, questions of several parts and rows
    without a usable answer go to OUT.set-aside.jsonl, each with its place and reason. Identical problems are merged.

    \b
    Examples:
      polaris-data import --from deepscaler --out deepscaler.jsonl
      polaris-data import copies/polaris-data-53K.jsonl --from polaris-53k --out polaris.jsonl
      polaris-data import a.csv b.parquet --columns question=text,references=label --out problems.jsonl
    """
    from polaris_data.problems.catalog import find_importer, parse_columns
    from polaris_data.problems.importing import import_problems, set_aside_path, write_published_profile
    from polaris_data.problems.reading import DEFAULT_COLUMNS

    if out.suffix != ".jsonl":
        raise SettingError(f"--out is {str(out)!r}; give a name that ends in .jsonl")
    if from_ and columns:
        raise SettingError("--from brings its own columns; leave out --columns, or --from")
    counts = import_problems(
        sources or [],
        out,
        importer=find_importer(from_) if from_ else None,
        columns=parse_columns(columns) if columns else DEFAULT_COLUMNS,
        ids=ids,
        split=split,
        revision=revision,
        limit=limit,
        strict=strict,
    )
    print(f"{counts.num_rows:>9,}  rows read")
    print(f"{counts.num_kept:>9,}  problems")
    if counts.num_merged:
        print(f"{counts.num_merged:>9,}  merged with an identical problem")
    for reason, count in counts.set_aside.items():
        print(f"{count:>9,}  set aside: {reason}")
    print(f"\nwrote {out}" + (f" and {set_aside_path(out)}" if counts.set_aside else ""))
    if profile_out is not None:
        print(f"wrote {profile_out}: {write_published_profile(profile_out, out):,} published pass rates")


def export_command(
    problems: ProblemsArgument,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write (.jsonl or .parquet).", show_default=False)],
    format: Annotated[
        Literal["jsonl", "parquet", "verl"] | None,
        typer.Option(help="What to write.  [default: by the name of --out]", show_default=False),
    ] = None,
    suffix: Annotated[
        bool, typer.Option("--suffix", help="For verl: end prompts with our request for a boxed answer.")
    ] = False,
    data_source: Annotated[
        str | None,
        typer.Option(help="For verl, which chooses its reward by it, as math_dapo.  [default: each problem's source]"),
    ] = None,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Write problems as JSON lines, parquet, or parquet in the format of verl.

    Reads PROBLEMS and writes --out and its settings (OUT.settings.json). Every format is read back as the same
    problems. For verl, ground_truth is the first reference; all of them are in extra_info.references.

    \b
    Examples:
      polaris-data export selected.jsonl --out selected.parquet
      polaris-data export selected.jsonl --out train.parquet --format verl --suffix
    """
    from polaris_data.files.journal import check_output, claim_output, whole_file
    from polaris_data.files.progress import track
    from polaris_data.problems.reading import iterate_problems
    from polaris_data.problems.rows import count_rows, fingerprint
    from polaris_data.problems.writing import choose_format, export_problems
    from polaris_data.records import PROMPT_SUFFIX

    chosen = choose_format(out, format)
    settings = {
        "command": "polaris-data export",
        **fingerprint(problems, split=split, revision=revision),
        "format": chosen,
        "suffix": PROMPT_SUFFIX if suffix else "",
        "data_source": data_source,
        "limit": limit,
        "skip_invalid": skip_invalid,
    }
    check_output(out, settings)
    rows = iterate_problems(
        problems, limit=limit, split=split, revision=revision, on_invalid="skip" if skip_invalid else "error"
    )
    shown = track(rows, total=limit or count_rows(problems), label="exporting")
    ending = PROMPT_SUFFIX if suffix else ""
    with whole_file(out) as whole:
        num_several = export_problems(shown, whole, format=chosen, suffix=ending, data_source=data_source, split=split)
        claim_output(out, settings)
    if num_several and chosen == "verl":
        print(f"{num_several:,} problems have several references: ground_truth is the first of them")
    print(f"wrote {out}")


def synthetic_command(
    num: Annotated[int, typer.Option(min=1, help="Problems to generate.")] = 500,
    seed: Annotated[int, typer.Option(help="Another seed gives other problems.")] = 0,
    split: Annotated[
        Literal["train", "held-out"], typer.Option(help="The splits share no problem, whatever the seeds.")
    ] = "train",
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to write.  [default: stdout]", show_default=False)
    ] = None,
) -> None:
    """Generate arithmetic problems of eight levels with worked solutions.

    Writes one JSON object a line to --out, or to stdout.

    \b
    Example:
      polaris-data synthetic --num 1000 --split held-out --out held-out.jsonl
    """
    from polaris_data.files.journal import write_text
    from polaris_data.problems.reading import to_json_lines
    from polaris_data.problems.synthetic import synthetic_problems

    text = to_json_lines(synthetic_problems(num, seed=seed, split=split))
    if out is None:
        print(text, end="")
        return
    if out.exists() and out.read_bytes() != text.encode():
        raise OtherRunError(f"{out} holds something else; choose another --out or remove it")
    write_text(out, text)
    print(f"wrote {out}")


_REFERENCES, _REFUSED = "references", "refused references"


def check_command(
    problems: ProblemsArgument,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the problems that pass (.jsonl), and the findings beside them."),
    ] = None,
    drop_suspicious: Annotated[
        bool, typer.Option("--drop-suspicious", help="Let problems with a suspicious reference not pass either.")
    ] = False,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Check that every reference, put into a box, is accepted as its own answer, and list suspicious ones.

    Reads PROBLEMS. Without --out, lists each finding: problem id, what is wrong, reference, between tabs. With it,
    writes the problems whose references are all accepted to OUT and the findings to OUT.findings.jsonl. Suspicious:
    empty, truncated LaTeX, several answers, a choice letter or unit only, very long, contradicting the first
    reference, or 'spelling only' (the grader reads no meaning in it, so that an answer must be spelled like it).

    \b
    Examples:
      polaris-data check problems.jsonl
      polaris-data check problems.jsonl --out gradable.jsonl
    """
    from polaris_data.files.journal import check_output, claim_output, whole_file
    from polaris_data.files.progress import track
    from polaris_data.problems.check import check_references, findings_path, write_checked
    from polaris_data.problems.reading import iterate_problems
    from polaris_data.problems.rows import count_rows, fingerprint

    try:
        from polaris_reward import boxed_grader
    except ImportError as error:
        raise MissingExtraError(
            f"checking references needs polaris-reward: pip install 'polaris-data[profile]>=2026.11' ({error})"
        ) from error
    settings = {
        "command": "polaris-data check",
        **fingerprint(problems, split=split, revision=revision),
        "drop_suspicious": drop_suspicious,
        "limit": limit,
        "skip_invalid": skip_invalid,
    }
    if out is not None:
        check_output(out, settings)
    rows = iterate_problems(
        problems, limit=limit, split=split, revision=revision, on_invalid="skip" if skip_invalid else "error"
    )
    counts: Counter[str] = Counter()
    with boxed_grader() as grader:
        shown = track(rows, total=limit or count_rows(problems), label="checking")
        checked = _counted(check_references(shown, grader.grade_many), counts)
        if out is None:
            for _, findings in checked:
                for one in findings:
                    print(one.problem_id, one.finding, json.dumps(one.reference, ensure_ascii=False), sep="\t")
        else:
            with whole_file(out) as passing, whole_file(findings_path(out)) as findings:
                num_passed = write_checked(checked, passing, findings, drop_suspicious=drop_suspicious)
                claim_output(out, settings)
            print(f"wrote {out} ({num_passed:,} problems that pass) and {findings_path(out)}")
    num_references, num_refused = counts.pop(_REFERENCES), counts.pop(_REFUSED)
    print(f"{num_references - num_refused:,} of {num_references:,} references are accepted as their own answer")
    for finding, count in counts.most_common():
        print(f"{count:>9,}  {finding}")


def _counted(
    checked: "Iterator[tuple[Problem, list[Finding]]]", counts: Counter[str]
) -> "Iterator[tuple[Problem, list[Finding]]]":
    """Pass checked problems through, and count references, refused ones, and findings by their names."""
    for problem, findings in checked:
        counts[_REFERENCES] += len(problem.references)
        counts[_REFUSED] += sum(one.is_refused for one in findings)
        counts.update(one.finding for one in findings)
        yield problem, findings
