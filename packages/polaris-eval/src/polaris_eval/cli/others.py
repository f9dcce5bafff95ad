"""The command ``polaris-eval report``.

The command ``polaris-eval list``.

The command ``polaris-eval compare``.

The command ``polaris-eval grade``.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from polaris_eval.benchmarks.registry import Benchmark


def report_command(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that 'run' or 'grade' wrote.")],
) -> None:
    """Print the scores of an evaluation again, and write its report.md and report.html.

    Reads OUT/scores.json and OUT/BENCHMARK/completions.jsonl. The page holds everything it needs: plots, tables, and
    a browser of the completions with their grades.

    Example: polaris-eval report eval/tiny
    """
    from polaris_eval.records import read_content, read_evaluations
    from polaris_eval.report.pages import write_reports
    from polaris_eval.report.tables import print_evaluations

    evaluations = read_evaluations(folder)
    folder = folder if folder.is_dir() else folder.parent
    pages = write_reports(folder)
    print_evaluations(evaluations, model=str(read_content(folder).get("model")))
    print(f"report: {' and '.join(map(str, pages))}")


_FILE_WIDTH = 120
"""Columns where the output is not a terminal."""


_SHORT_REVISION = 7


def list_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Tell everything about this one.", show_default=False)
    ] = None,
) -> None:
    """Print the benchmarks that have a name: problems, default k, the pinned Hub data set, checksum.

    With NAME: columns, notes, and what others published for it. Reads and writes nothing.

    Example: polaris-eval list aime25
    """
    from polaris_eval.benchmarks.registry import BENCHMARKS, find_benchmark

    if name is None:
        _print_table(BENCHMARKS.values())
    else:
        _print_one(find_benchmark(name))


def _print_table(benchmarks: "Iterable[Benchmark]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("benchmark", "problems", "k", "Hub data set", "revision", "split", "checksum"):
        table.add_column(heading, justify="right" if heading in ("problems", "k") else "left", no_wrap=True)
    for benchmark in benchmarks:
        table.add_row(
            benchmark.name,
            str(benchmark.num_problems),
            str(benchmark.k),
            benchmark.hub_id,
            benchmark.revision[:_SHORT_REVISION],
            benchmark.split,
            benchmark.checksum or "none",
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table)
    print("\npolaris-eval list NAME tells the columns, notes and published figures of one")


def _print_one(benchmark: "Benchmark") -> None:
    from polaris_eval.benchmarks.published import PUBLISHED

    stem = benchmark.file or benchmark.name
    question, reference = benchmark.columns
    print(f"{benchmark.name}: {benchmark.num_problems} problems, {benchmark.k} completions each")
    print(f"Hub data set: {benchmark.hub_id}, split {benchmark.split}, revision {benchmark.revision}")
    print(f"columns: {question} (question), {reference} (reference)")
    print(f"local copy: {stem}.jsonl or {stem}_{benchmark.split}.jsonl in --data-dir")
    print(f"checksum of the checked copy: {benchmark.checksum or 'none, no copy was at hand'}")
    if benchmark.note:
        print(f"note: {benchmark.note}")
    for source, figures in PUBLISHED.get(benchmark.name, {}).items():
        print(f"\npublished mean@{benchmark.k} in percent, {source}:")
        for model, percent in figures.items():
            print(f"  {model:<22}{percent:5.1f}")


def compare_command(
    before: Annotated[
        Path, typer.Argument(metavar="A", help="A folder that 'run' or 'grade' wrote, or its scores.json.")
    ],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another one, of the same problems.")],
    common: Annotated[
        bool, typer.Option("--common", help="Where one has more problems, compare those that both have.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the comparison as JSON.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the comparison as an HTML page with plots.")
    ] = None,
) -> None:
    """Compare two evaluations problem by problem.

    Reads A/scores.json and B/scores.json, and writes nothing but --json and --page. For each benchmark that both have
    it prints the difference of mean@k with the 95% interval of the paired differences, and the probability that its
    sign is right; then accuracy by length (the same groups for both) and the budget curves. Different problem sets are
    refused; different protocols are named in a warning.

    \b
    Examples:
      polaris-eval compare eval/base eval/trained
      polaris-eval compare eval/plain eval/yarn --page yarn.html
    """
    from polaris_eval.report.side_by_side import side_by_side, write_comparison_page
    from polaris_eval.report.tables import print_comparisons
    from polaris_eval.scores.compare import compare_scores, only_in_one, protocol_differences, read_scores

    first, second = read_scores(before), read_scores(after)
    comparisons = compare_scores(first, second, common=common)
    warnings = only_in_one(first, second)
    differing = protocol_differences(first.protocol, second.protocol)
    if not (first.protocol and second.protocol):
        warnings.append("one of them does not say how it was made, so that cannot be compared")
    elif differing:
        warnings.append("\n  ".join(["the protocols differ, which may be what changed the scores:", *differing]))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    pairs = side_by_side(before, after)
    print_comparisons(comparisons, pairs, before=first.model, after=second.model)
    if json_file:
        from dataclasses import asdict

        from polaris_data.files import write_json

        content = {"before": first.model, "after": second.model, "protocol_differences": differing}
        write_json(json_file, content | {"comparisons": [asdict(each) for each in comparisons]})
    if page:
        write_comparison_page(page, comparisons, pairs, before=before, after=after, warnings=warnings)
        print(f"page: {page}")


def grade_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Completions with their accepted answers.")],
    name: Annotated[
        str | None, typer.Option(help="Of the benchmark; the default is the file's stem.", metavar="NAME")
    ] = None,
    model: Annotated[str, typer.Option(help="Who wrote them, for the report.")] = "unknown",
    policy: Annotated[
        str, typer.Option(help="What counts as an answer: boxed, default (a reader would find it), polaris-v1.")
    ] = "boxed",
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Folder or Hub id of the model, to count tokens where the file does not.", metavar="MODEL"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; the default is eval/NAME.")] = None,
) -> None:
    """Grade completions that were drawn elsewhere, and give the same report as 'run'.

    Reads JSON lines, JSON, CSV or parquet: what 'run' wrote; results of the published scripts ('responses' and
    'reward_model.ground_truth'); sample logs of lm-eval and details of lighteval; any other rows with 'response(s)' or
    'completion(s)' and 'answer' or 'references'. Rows of one problem are put together by their id or question. Grades
    in the file are not used. Writes OUT/NAME/completions.jsonl, OUT/scores.json, OUT/report.md and OUT/report.html.

    Example: polaris-eval grade aime24.parquet --model Qwen3-4B --out eval/qwen3-4b
    """
    from polaris_reward import CONVENTIONS, Grader

    from polaris_eval.errors import CompletionsFileError, SettingError
    from polaris_eval.report.pages import write_reports
    from polaris_eval.report.tables import print_evaluations
    from polaris_eval.running.formats import read_completions
    from polaris_eval.running.graded import grade_file_settings, grade_groups, score_graded

    if policy not in CONVENTIONS:
        raise SettingError(f"--policy is {policy!r}; give one of: {', '.join(CONVENTIONS)}")
    if not file.is_file():
        raise CompletionsFileError(f"no file {str(file)!r}; give a file of completions")
    name = name or (file.stem if file.stem != "completions" else file.absolute().parent.name)
    if name in ("", ".", "..") or "/" in name:
        raise SettingError(f"--name is {name!r}; give a name fit for a folder")
    out = out or Path("eval") / name
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out is {str(out)!r}, which is a file; give a folder")
    settings = grade_file_settings(file, name=name, convention=CONVENTIONS[policy], tokenizer=tokenizer)
    count_tokens = _open_counter(tokenizer) if tokenizer else None
    groups = read_completions(file)
    with Grader(convention=CONVENTIONS[policy], max_failed_share=None) as grader:
        records = grade_groups(groups, grader.grade_many, count_tokens=count_tokens)
    evaluation = score_graded(name, records, settings=settings, model=model, out=out)
    pages = write_reports(out)
    print_evaluations([evaluation], model=model)
    print(f"scores: {out / 'scores.json'}\nreport: {' and '.join(map(str, pages))}")


def _open_counter(model: str) -> Callable[[str], int]:
    from polaris_rollout import local_folder, resolve_model
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(local_folder(resolve_model(model)))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
