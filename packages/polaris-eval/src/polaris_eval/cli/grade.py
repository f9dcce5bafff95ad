"""The command ``polaris-eval grade``."""

from pathlib import Path
from typing import Annotated

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
        typer.Option(
            help="Folder or Hub id of the model: counts tokens where the file does not, and says whether its chat "
            "template opens the thinking.",
            metavar="MODEL",
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

    Reads JSON lines, JSON, CSV or parquet: what 'run' wrote; results of the published scripts ('responses' and
    'reward_model.ground_truth'); sample logs of lm-eval and details of lighteval; any other rows with 'response(s)' or
    'completion(s)' and 'answer' or 'references'. Rows of one problem are put together by their id or question. Grades
    in the file are not used. Writes OUT/NAME/completions.jsonl, OUT/scores.json, OUT/report.md and OUT/report.html.

    Example:

        polaris-eval grade aime24.parquet --model Qwen3-4B --out eval/qwen3-4b
    """
    from polaris_reward import CONVENTIONS

    from polaris_eval.errors import SettingError
    from polaris_eval.report.documents import write_reports
    from polaris_eval.report.tables import print_evaluations
    from polaris_eval.running.graded import grade_file
    from polaris_eval.running.second import open_second_grader, second_opinion

    if policy not in CONVENTIONS:
        raise SettingError(f"--policy is {policy!r}; give one of: {', '.join(CONVENTIONS)}")
    if second_grader:
        open_second_grader(second_grader)  # Refused before anything is graded.
    name = name or (file.stem if file.stem != "completions" else file.absolute().parent.name)
    out = out or Path("eval") / name
    convention = CONVENTIONS[policy]
    evaluation = grade_file(file, name=name, model=model, out=out, convention=convention, tokenizer=tokenizer)
    opinion = second_opinion(out / name, second_grader) if second_grader else None
    files = write_reports(out)
    print_evaluations([evaluation], model=model)
    if opinion:
        print(f"\n{opinion}")
    print(f"scores: {out / 'scores.json'}\nreport: {' and '.join(map(str, files))}")
