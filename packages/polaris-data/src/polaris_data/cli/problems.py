"""The commands about files of problems: ``polaris-data import``, ``export``, ``synthetic`` and ``check``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polaris_data.cli.options import Limit, Revision, Suffix, source_options
from polaris_data.errors import OtherRunError, SettingError
from polaris_data.problems.source import Source
from polaris_data.records import PROMPT_SUFFIX

if TYPE_CHECKING:
    from polaris_data.problems.check import Finding


def import_command(
    out: Annotated[Path, typer.Option(dir_okay=False, help="Problem file to write (.jsonl).", show_default=False)],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Files (.jsonl, .json, .csv, .tsv, .parquet, also .gz or .zst), folders or Hub ids "
            "(OWNER/NAME[:CONFIG]); none with --from: the data set on the Hub.",
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
    answer_from: Annotated[
        Literal["answer", "solution"],
        typer.Option(
            help="Take answers from the column of answers, and where there is none from the solution; or always from "
            "the solution: its last box, what follows '####' or 'the answer is'."
        ),
    ] = "answer",
    join_parts: Annotated[
        bool,
        typer.Option(
            "--join-parts", help="Keep questions of several parts that have an answer to each: all of them, in order."
        ),
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE,...",
            help="Take only rows with one of these values in that column; repeat it for more columns.",
            show_default=False,
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
            dir_okay=False,
            help="Also write published pass rates ('difficulty': '3/8'; 'solve_rate' with 'n') as a profile.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Turn raw data sets into one file of problems.

    Reads every SOURCE and writes to --out one problem a line: id, question, references (the accepted answers,
    without dollars, boxes and '.0'), source and every other column. Proofs, questions of several parts or with a
    picture, broken lines and rows without a usable answer go to OUT.set-aside.jsonl, each with its place and reason.
    References that are kept but look wrong are listed in OUT.findings.jsonl. Identical problems are merged.

    Examples:

        polaris-data import --from deepscaler --out deepscaler.jsonl
        polaris-data import copies/polaris-data-53K.jsonl --from polaris-53k --out polaris.jsonl
        polaris-data import a.csv b.parquet --columns question=text,references=label --out problems.jsonl
        polaris-data import --from math --where 'level=Level 4,Level 5' --out hard.jsonl
    """
    from polaris_data.problems.catalog import find_importer, parse_columns
    from polaris_data.problems.check import findings_path
    from polaris_data.problems.columns import DEFAULT_COLUMNS, parse_where
    from polaris_data.problems.importing import import_problems, set_aside_path
    from polaris_data.problems.published import write_published_profile

    if out.suffix != ".jsonl":
        raise SettingError(f"--out is {str(out)!r}; give a name that ends in .jsonl")
    if from_ and columns:
        raise SettingError("--from brings its own columns; leave out --columns, or --from")
    counts = import_problems(
        sources or [],
        out,
        layout=find_importer(from_) if from_ else parse_columns(columns) if columns else DEFAULT_COLUMNS,
        ids=ids,
        split=split,
        revision=revision,
        limit=limit,
        strict=strict,
        answer_from=answer_from,
        join_parts=join_parts,
        where=dict(map(parse_where, where or ())),
    )
    print(f"{counts.num_rows:>9,}  rows read")
    if counts.num_left_out:
        print(f"{counts.num_left_out:>9,}  left out by --where")
    print(f"{counts.num_kept:>9,}  problems")
    if counts.num_merged:
        print(f"{counts.num_merged:>9,}  merged with an identical problem")
    for reason, count in counts.set_aside.items():
        print(f"{count:>9,}  set aside: {reason}")
    for finding, count in counts.findings.items():
        print(f"{count:>9,}  kept, to look at: {finding}")
    beside = [(set_aside_path(out), counts.set_aside), (findings_path(out), counts.findings)]
    print(f"\nwrote {' and '.join([str(out), *(str(path) for path, found in beside if found)])}")
    if profile_out is not None:
        print(f"wrote {profile_out}: {write_published_profile(profile_out, out):,} published pass rates")


@source_options
def export_command(
    problems: Source,
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
) -> None:
    """Write problems as JSON lines, parquet, or parquet in the format of verl.

    Reads PROBLEMS and writes --out and its settings (OUT.settings.json). Every format is read back as the same
    problems. For verl, ground_truth is the first reference; all of them are in extra_info.references.

    Examples:

        polaris-data export selected.jsonl --out selected.parquet
        polaris-data export selected.jsonl --out train.parquet --format verl --suffix
    """
    from polaris_data.problems.writing import export_problems
    from polaris_data.records import PROMPT_SUFFIX

    num_several = export_problems(
        problems, out, format=format, suffix=PROMPT_SUFFIX if suffix else "", data_source=data_source
    )
    if num_several:
        print(f"{num_several:,} problems have several references: ground_truth is the first of them")
    print(f"wrote {out}")


def synthetic_command(
    num: Annotated[int, typer.Option(min=1, help="Problems to generate.")] = 500,
    seed: Annotated[int, typer.Option(help="Another seed gives other problems.")] = 0,
    split: Annotated[
        Literal["train", "held-out"], typer.Option(help="The splits share no problem, whatever the seeds.")
    ] = "train",
    levels: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Numbers of operations that take turns, from 1 to 8; repeated ones weigh more.  [default: all eight]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to write.  [default: stdout]", show_default=False)
    ] = None,
) -> None:
    """Generate arithmetic problems of eight levels with worked solutions.

    Writes one JSON object a line to --out, or to stdout.

    Example:

        polaris-data synthetic --num 1000 --split held-out --out held-out.jsonl
        polaris-data synthetic --num 1000 --levels 1,1,2,3 --out easy.jsonl
    """
    from polaris_data.files.journal import write_text
    from polaris_data.problems.reading import to_json_lines
    from polaris_data.problems.synthetic import parse_levels, synthetic_problems

    try:
        problems = synthetic_problems(num, seed=seed, split=split, levels=parse_levels(levels))
    except ValueError as error:
        raise SettingError(f"--levels is {levels!r}, --num {num}: {error}") from error
    text = to_json_lines(problems)
    if out is None:
        print(text, end="")
        return
    if out.exists() and out.read_bytes() != text.encode():
        raise OtherRunError(f"{out} holds something else; choose another --out or remove it")
    write_text(out, text)
    print(f"wrote {out}")


@source_options
def check_command(
    problems: Source,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the problems that pass (.jsonl), and the findings beside them."),
    ] = None,
    drop_suspicious: Annotated[
        bool, typer.Option("--drop-suspicious", help="Let problems with a suspicious reference not pass either.")
    ] = False,
    max_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Let problems with a longer prompt, as --model sees it, not pass.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model folder, a Hub id, or a carried name.", show_default=False)
    ] = None,
    suffix: Suffix = PROMPT_SUFFIX,
) -> None:
    """Check that every reference, put into a box, is accepted as its own answer, and list suspicious ones.

    Reads PROBLEMS. Without --out, lists each finding: problem id, what is wrong, reference, between tabs. With it,
    writes the problems whose references are all accepted to OUT and the findings to OUT.findings.jsonl. Suspicious:
    empty, truncated LaTeX, several answers, a choice letter or unit only, very long, contradicting the first
    reference, or 'spelling only' (the grader reads no meaning in it, so that an answer must be spelled like it).

    Examples:

        polaris-data check problems.jsonl
        polaris-data check problems.jsonl --out gradable.jsonl
        polaris-data check problems.jsonl --out usable.jsonl --model Qwen/Qwen3-4B --max-prompt-tokens 1024
    """
    from polaris_data.problems.check import check_problems, findings_path

    if (max_prompt_tokens is None) != (model is None):
        raise SettingError("--max-prompt-tokens needs --model, whose tokenizer counts, and --model is for nothing else")
    limit = None
    if max_prompt_tokens is not None and model is not None:
        from polaris_data.profile import prompt_limit

        limit = prompt_limit(model, max_prompt_tokens, suffix=suffix)
    counts = check_problems(
        problems,
        out,
        drop_suspicious=drop_suspicious,
        prompts=limit,
        report=_print_finding if out is None else lambda _: None,
    )
    if out is not None:
        print(f"wrote {out} ({counts.num_passed:,} problems that pass) and {findings_path(out)}")
    num_accepted = counts.num_references - counts.num_refused
    print(f"{num_accepted:,} of {counts.num_references:,} references are accepted as their own answer")
    for finding, count in counts.findings.most_common():
        print(f"{count:>9,}  {finding}")


def _print_finding(finding: "Finding") -> None:
    print(finding.problem_id, finding.finding, json.dumps(finding.reference, ensure_ascii=False), sep="\t")
