"""The commands ``polaris-train verifier train`` and ``score``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from polaris_data import PROMPT_SUFFIX

if TYPE_CHECKING:
    from polaris_eval import Estimate

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


def _percent(estimate: "Estimate", sign: str = "") -> str:
    low, high = estimate.interval
    return f"{100 * estimate.value:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


@verifier_app.command("train")
def train_command(
    completions: _Files,
    model: Annotated[str, typer.Option(help="The model that reads them, frozen: a folder, a Hub id, or tiny.")],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    problems: _Problems = None,
    suffix: Annotated[str, typer.Option(help="Of every question in the prompt.")] = PROMPT_SUFFIX,
    folds: Annotated[
        int, typer.Option(min=2, help="Parts of the problems; each is scored by a head that learned from the others.")
    ] = 5,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
) -> None:
    """Train a linear head on the model's last hidden state at the end of each completion.

    Grades the completions and tells how well heads rank those of problems that they did not learn from (AUC), and how
    much of the gap between the majority vote and pass@k votes weighted by their scores and best-of-k close. Writes OUT:
    head.safetensors (learned from all), verifier.json, and scores.jsonl (of each problem by a head that did not learn
    from it).

    Examples:

        polaris-train verifier train runs/4b/eval/final/aime24/completions.jsonl --model Qwen/Qwen3-4B --out verifier
        polaris-train verifier train S/rollouts/*.parquet --problems S/problems.jsonl --model S/model --out verifier
    """
    from polaris_train.verifier import train_verifier

    found = train_verifier(*completions, model=model, out=out, suffix=suffix, problems=problems, folds=folds, seed=seed)
    print(
        f"{found.num_completions:,} completions of {found.num_problems:,} problems, by heads that learned from others:"
    )
    print(f"AUC {'?' if found.auc is None else f'{found.auc:.3f}'}")
    for name in ("mean", "majority", "any_right"):
        print(f"{name.replace('any_right', 'pass')} {_percent(getattr(found, name))}")
    for name, value, gain in (
        ("weighted", found.weighted, found.weighted_gain),
        ("best of", found.best, found.best_gain),
    ):
        closed = found.closed(gain)
        of_gap = "" if closed is None else f", {closed:+.0%} of the gap to pass"
        print(f"{name} {_percent(value)}: {_percent(gain, '+')} to the majority{of_gap}")
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
