"""The command ``polaris-eval grade``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


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
    from polaris_reward import POLICIES, Grader

    from polaris_eval.errors import CompletionsFileError, SettingError
    from polaris_eval.formats import read_completions
    from polaris_eval.grade import grade_file_settings, grade_groups, score_graded
    from polaris_eval.report import print_evaluations
    from polaris_eval.report_files import write_reports

    if policy not in POLICIES:
        raise SettingError(f"--policy is {policy!r}; give one of: {', '.join(POLICIES)}")
    if not file.is_file():
        raise CompletionsFileError(f"no file {str(file)!r}; give a file of completions")
    name = name or (file.stem if file.stem != "completions" else file.absolute().parent.name)
    if name in ("", ".", "..") or "/" in name:
        raise SettingError(f"--name is {name!r}; give a name fit for a folder")
    out = out or Path("eval") / name
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out is {str(out)!r}, which is a file; give a folder")
    settings = grade_file_settings(file, name=name, policy=POLICIES[policy], tokenizer=tokenizer)
    count_tokens = _open_counter(tokenizer) if tokenizer else None
    groups = read_completions(file)
    with Grader(policy=POLICIES[policy], max_failed_share=None) as grader:
        records = grade_groups(groups, grader.grade_many, count_tokens=count_tokens)
    evaluation = score_graded(name, records, settings=settings, model=model, out=out)
    pages = write_reports(out)
    print_evaluations([evaluation], model=model)
    print(f"scores: {out / 'scores.json'}\nreport: {' and '.join(map(str, pages))}")


def _open_counter(model: str) -> Callable[[str], int]:
    from polaris_rollout.models import local_folder, resolve_model
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(local_folder(resolve_model(model)))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
