"""The command ``polaris-eval grade``."""

import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer


def grade_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Completions: one file, or several that are parts of one set or samples of the same problems.",
        ),
    ],
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="Take the accepted answers from this benchmark (see 'list') or file of problems, whatever the files "
            "say. A row is of the problem whose question it asks, or whose id it has.",
            metavar="NAME|FILE",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Grade only rows with this in a column: model_name=org/a, or step=100,200. Repeat it for others.",
            metavar="COLUMN=VALUE,...",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Of the benchmark; the default is that of --benchmark, or what the names of the files begin with.",
            metavar="NAME",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Who wrote them, for the report.")] = "unknown",
    policy: Annotated[
        str, typer.Option(help="What counts as an answer: boxed, default (a reader would find it), polaris-v1.")
    ] = "boxed",
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Folder or Hub id of the model: counts tokens where the file does not, and says whether its chat "
            "template opens the thinking.",
            metavar="MODEL",
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="What another model thinks of the completions, for weighted votes and best-of: JSON lines with "
            "'problem_id' and 'scores', a number for each completion.",
            metavar="FILE",
        ),
    ] = None,
    second_grader: Annotated[
        str | None,
        typer.Option(
            help="Let math-verify judge as well: its verdicts go into completions.jsonl, what the two disagree on into "
            "disagreements.jsonl beside it; scores stay.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; the default is eval/NAME.")] = None,
) -> None:
    """Grade completions that were drawn elsewhere, and give the same report as 'run'.

    Reads JSON lines, JSON, CSV, parquet (compressed or not) and logs of inspect: what OpenAI's batches, vllm run-batch
    and chat interfaces return; dumps of verl and TRL; results of lm-eval, lighteval, inspect, evalscope, OpenCompass,
    MathArena, NeMo-Skills, Qwen2.5-Math, ZeroEval and open-r1; what 'run' wrote; and any other rows with 'response(s)',
    'completion(s)' or the like and 'answer' or 'references'. Rows with the same question are of one problem. Grades in
    the files are not used. What cannot be graded is set aside. Writes OUT/NAME/completions.jsonl,
    OUT/NAME/set-aside.jsonl, OUT/scores.json, OUT/report.md and OUT/report.html.

    Examples:

        polaris-eval grade aime24.parquet --model Qwen3-4B --out eval/qwen3-4b
        polaris-eval grade output-rs0.jsonl output-rs1.jsonl --benchmark aime24
        polaris-eval grade aime24.parquet --scores verifier.jsonl
    """
    from polaris_data.problems import parse_where
    from polaris_reward import CONVENTIONS

    from polaris_eval.errors import SettingError
    from polaris_eval.report.documents import notes_of_file, write_reports
    from polaris_eval.report.tables import print_evaluations
    from polaris_eval.running.graded import grade_file
    from polaris_eval.running.second import open_second_grader, second_opinion

    if policy not in CONVENTIONS:
        raise SettingError(f"--policy is {policy!r}; give one of: {', '.join(CONVENTIONS)}")
    if second_grader:
        open_second_grader(second_grader)  # Refused before anything is graded.
    name = name or name_of([Path(benchmark)] if benchmark else files)
    out = out or Path("eval") / name
    evaluation = grade_file(
        *files,
        name=name,
        model=model,
        out=out,
        convention=CONVENTIONS[policy],
        tokenizer=tokenizer,
        benchmark=benchmark,
        where=dict(map(parse_where, where or ())),
        scores=scores,
    )
    opinion = second_opinion(out / name, second_grader) if second_grader else None
    reports = write_reports(out)
    print_evaluations([evaluation], model=model)
    if opinion:
        print(f"\n{opinion}")
    for note in notes_of_file(evaluation):
        print(f"warning: {note}", file=sys.stderr)
    print(f"scores: {out / 'scores.json'}\nreport: {' and '.join(map(str, reports))}")


def name_of(files: Sequence[Path]) -> str:
    """Return what the names of files begin with, without endings; the name of their folder where that says nothing."""
    stems = [file.name[: -len(suffixes)] if (suffixes := _endings(file)) else file.name for file in files]
    name = stems[0] if len(stems) == 1 else _common(stems)
    return name.replace(":", "-") if name not in ("", "completions") else files[0].absolute().parent.name


def _common(stems: Sequence[str]) -> str:
    """Return what all begin with, without the beginning of a number."""
    same = takewhile(lambda characters: len(set(characters)) == 1, zip(*stems, strict=False))
    return "".join(characters[0] for characters in same).rstrip("-_. 0123456789")


def _endings(file: Path) -> str:
    """Return the ending of a file, with that of its compression."""
    outer = file.suffix
    inner = Path(file.stem).suffix if outer in (".gz", ".zst", ".bz2") else ""
    return inner + outer
