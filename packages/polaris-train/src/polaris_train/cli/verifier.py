"""The commands ``polaris-train verifier train`` and ``score``."""

from pathlib import Path
from typing import Annotated

import typer
from polaris_data import PROMPT_SUFFIX

verifier_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Train a small verifier on graded completions, and score others with it.",
)

_Files = Annotated[
    list[Path],
    typer.Argument(help="Files of completions, as polaris-eval grade takes them.", show_default=False),
]
_Problems = Annotated[
    str | None,
    typer.Option(help="File of their problems, where the completions do not hold questions and answers."),
]


@verifier_app.command("train")
def train_command(
    completions: _Files,
    model: Annotated[str, typer.Option(help="The model that reads them, frozen: a folder, a Hub id, or tiny.")],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    problems: _Problems = None,
    suffix: Annotated[str, typer.Option(help="Of every question in the prompt.")] = PROMPT_SUFFIX,
    test_share: Annotated[float, typer.Option(min=0.01, max=0.99, help="Of the problems, only to test on.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of the split by problem.")] = 0,
) -> None:
    """Train a linear head on the model's last hidden state at the end of each completion.

    Grades the completions, learns from most problems and tells, of the others, how well it ranks (AUC) and how much of
    the gap between the majority vote and pass@k weighted votes and best-of-k close. Writes OUT: head.safetensors and
    verifier.json.

    Examples:

        polaris-train verifier train runs/4b/eval/final/aime24/completions.jsonl --model Qwen/Qwen3-4B --out verifier
        polaris-train verifier train S/rollouts/*.parquet --problems S/problems.jsonl --model S/model --out verifier
    """
    from polaris_train.verifier import train_verifier

    found = train_verifier(
        *completions, model=model, out=out, suffix=suffix, problems=problems, test_share=test_share, seed=seed
    )
    print(f"{found.num_completions:,} completions of {found.num_problems:,} problems that it was not trained on:")
    print(f"AUC {'?' if found.auc is None else f'{found.auc:.3f}'}; mean {found.mean:.1%}, pass {found.any_right:.1%}")
    print(f"majority {found.majority:.1%}")
    for name, value in (("weighted", found.weighted), ("best of", found.best)):
        closed = found.closed(value)
        print(f"{name} {value:.1%}" + ("" if closed is None else f", closes {closed:+.0%} of the gap"))
    print(f"verifier: {out}")


@verifier_app.command("score")
def score_command(
    completions: _Files,
    verifier: Annotated[Path, typer.Option(help="Folder that 'train' wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write, for polaris-eval grade --scores.", show_default=False)],
    problems: _Problems = None,
    model: Annotated[str | None, typer.Option(help="Where its model is, if it has moved.")] = None,
) -> None:
    """Say how likely each completion is right, from 0 to 1.

    Writes OUT: a line for each problem with the scores of its completions, in their order.

    Example:

        polaris-train verifier score aime24.parquet --verifier verifier --out scores.jsonl
        polaris-eval grade aime24.parquet --scores scores.jsonl --out graded
    """
    from polaris_train.verifier import score_completions

    num_problems = score_completions(*completions, verifier=verifier, out=out, problems=problems, model=model)
    print(f"scores of {num_problems:,} problems: {out}")
