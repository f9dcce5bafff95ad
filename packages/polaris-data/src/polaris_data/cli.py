"""The ``polaris-data`` command."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polaris_data.errors import DataError, OtherRunError, ProblemFileError, SettingError

if TYPE_CHECKING:
    from polaris_data.records import Difficulty, Problem

app = typer.Typer(
    name="polaris-data",
    help="Problems: how hard they are for a model, and which of them it can still learn from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DEFAULT_MODEL = "tiny"

ProblemsArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROBLEMS",
        help="A .jsonl, .json or .parquet file, a folder or Hub id that datasets can load (OWNER/NAME[:CONFIG]), "
        "'synthetic' or 'synthetic:held-out'.",
        show_default=False,
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Take the first N rows only.", metavar="N")]
SkipInvalid = Annotated[
    bool,
    typer.Option(
        "--skip-invalid", help="Set rows without a question or answer, or with a repeated id, aside with a warning."
    ),
]
DataSplit = Annotated[str, typer.Option(help="Split of a folder or Hub data set.")]
Revision = Annotated[str | None, typer.Option(help="Commit, branch or tag of a Hub data set.")]


@app.callback()
def _start() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in ("polaris_data", "polaris_rollout"):
        logging.getLogger(package).setLevel(logging.INFO)


@app.command("profile")
def profile_command(
    problems: ProblemsArgument,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"Model folder, Hub id or '{DEFAULT_MODEL}'.  [default: {DEFAULT_MODEL}]", show_default=False
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Answers sampled for each problem, 1 or more.")] = 8,
    temperature: Annotated[float, typer.Option(min=0.0, help="Divides the logits.")] = 1.0,
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Longest prompt and answer together, in tokens.  [default: the model's]"),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens.  [default: fills the context]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="File to write.  [default: ./NAME.profile.jsonl]", show_default=False),
    ] = None,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Measure how often a model solves each problem.

    Reads PROBLEMS, samples answers with vLLM, grades them, and writes one line for each problem to --out
    (samples, correct, truncated, mean tokens) and the settings beside it (OUT.settings.json). Every finished
    problem is kept: after an interruption the same command samples only what is left.

    \b
    Examples:
      polaris-data profile synthetic --limit 64
      polaris-data profile train.jsonl --model Qwen/Qwen3-4B --temperature 1.4 --context 40960
    """
    from polaris_data.difficulty import read_profile
    from polaris_data.journal import Journal
    from polaris_data.outputs import check_output, claim_output, settings_path
    from polaris_data.profile import TrackedSampler, profile, profile_settings, to_prompts

    if samples < 1:
        raise SettingError(f"--samples is {samples}; give 1 or more")
    out = out or _default_out(problems)
    model = model or _default_model()
    rows = _read(problems, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
    _check_model(model, context=context)

    from polaris_rollout.records import SamplingParams

    params = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)
    settings = profile_settings(rows, model=model, context=context, params=params, num_samples=samples)
    check_output(out, settings)
    journal = Journal(out)
    if journal.finished:
        print(f"{out} is complete: nothing is sampled", file=sys.stderr)
    else:
        from polaris_reward import BOXED, Grader
        from polaris_rollout.vllm_sampler import VllmSampler

        with Grader(policy=BOXED, max_failed_share=None) as grader, VllmSampler(model, context=context) as sampler:
            sampler.check_prompts(to_prompts(rows), max_tokens=max_tokens)
            claim_output(out, settings)
            tracked = TrackedSampler(sampler, total=len(rows), done=len(journal.records))
            for _ in profile(rows, tracked, grader.grade_many, params=params, num_samples=samples, journal=journal):
                pass
    _print_profile(read_profile(out))
    print(f"\nwrote {out} and {settings_path(out)}")


@app.command("select")
def select_command(
    problems: ProblemsArgument,
    profile: Annotated[
        Path, typer.Argument(metavar="PROFILE", help="What 'profile' wrote for them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.", metavar="DIR", show_default=False)],
    max_accuracy: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Drop problems solved this often or more; 1: solved every time.")
    ] = 1.0,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Keep the problems that a model can still learn from.

    Reads PROBLEMS and their PROFILE, drops what the model solved every time (8/8), and writes
    DIR/selected.jsonl (the kept problems) and DIR/decisions.json (in or out, and why, for each problem). Give
    the --limit and --skip-invalid that the profile was made with.

    \b
    Example:
      polaris-data select train.jsonl train.profile.jsonl --out data
    """
    from polaris_data.difficulty import check_recorded_problems, read_profile
    from polaris_data.outputs import claim_output
    from polaris_data.select import count_reasons, select, selection_settings, write_selection

    rows = _read(problems, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
    difficulties = read_profile(profile)
    decisions = select(rows, difficulties, max_accuracy=max_accuracy)
    check_recorded_problems(profile, rows)
    if not any(decision.kept for decision in decisions):
        raise ProblemFileError(f"no problem is left: the model solved every one at least {max_accuracy:g} of the time")
    claim_output(out / "selected.jsonl", selection_settings(rows, difficulties, max_accuracy=max_accuracy))
    write_selection(out, rows, decisions, max_accuracy=max_accuracy)
    for reason, count in count_reasons(decisions).items():
        print(f"{count:>9,}  {reason}")
    _print_shapes(difficulties, kept={decision.problem_id for decision in decisions if decision.kept})
    print(f"\nwrote {out / 'selected.jsonl'} and {out / 'decisions.json'}")


@app.command("show")
def show_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE_OR_PROBLEMS", help="What 'profile' wrote, or any problem set.", show_default=False
        ),
    ],
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Show a difficulty profile as a histogram, or what a problem set holds.

    Reads one file and writes nothing. The histogram counts problems by k of n answers correct and names its
    shape: mirrored-J (most are never solved: good to train on), J (most are always solved: too easy), U.

    \b
    Examples:
      polaris-data show train.profile.jsonl
      polaris-data show train.jsonl
    """
    from polaris_data.difficulty import is_profile, read_profile
    from polaris_data.show import describe_problems

    if is_profile(Path(source)):
        _print_profile(read_profile(source))
    else:
        rows = _read(source, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
        print(describe_problems(rows))


@app.command("synthetic")
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
    from polaris_data.journal import write_text
    from polaris_data.problems import to_json_lines
    from polaris_data.synthetic import synthetic_problems

    text = to_json_lines(synthetic_problems(num, seed=seed, split=split))
    if out is None:
        print(text, end="")
        return
    if out.exists() and out.read_bytes() != text.encode():
        raise OtherRunError(f"{out} holds something else; choose another --out or remove it")
    write_text(out, text)
    print(f"wrote {out}")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except _user_errors() as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _user_errors() -> tuple[type[Exception], ...]:
    """Return what a user can get wrong here and in the packages that the command has loaded."""
    bases = {"polaris_rollout.errors": "RolloutError", "polaris_reward.errors": "RewardError"}
    loaded = [getattr(sys.modules[module], name) for module, name in bases.items() if module in sys.modules]
    return (DataError, *loaded)


def _default_out(problems: str) -> Path:
    name = Path(problems).stem if Path(problems).is_file() else Path(problems).name
    return Path(f"{name.replace(':', '-')}.profile.jsonl")


def _default_model() -> str:
    print(f"no --model given: using {DEFAULT_MODEL!r}, the demonstration model of polaris-train", file=sys.stderr)
    return DEFAULT_MODEL


def _check_model(model: str, *, context: int | None) -> None:
    """Refuse a wrong model or context before the engine, which takes many seconds to import, is asked."""
    from polaris_rollout.models import check_context, resolve_model

    check_context(resolve_model(model), context)


def _read(source: str, *, limit: int | None, skip_invalid: bool, split: str, revision: str | None) -> "list[Problem]":
    from polaris_data.problems import read_problems

    return read_problems(
        source, limit=limit, split=split, revision=revision, on_invalid="skip" if skip_invalid else "error"
    )


def _print_profile(profile: "Sequence[Difficulty]") -> None:
    from rich.console import Console

    from polaris_data.shape import histogram
    from polaris_data.show import describe_profile, histogram_table

    counts = histogram(profile)
    Console(highlight=False).print(histogram_table(counts))
    print("\n" + describe_profile(counts, profile))


def _print_shapes(profile: "Sequence[Difficulty]", *, kept: set[str]) -> None:
    from polaris_data.shape import histogram

    before = histogram(profile)
    after = histogram(difficulty for difficulty in profile if difficulty.problem_id in kept)
    print(
        f"before: {before.num_problems:,} problems, shape {before.shape}; "
        f"after: {after.num_problems:,} problems, shape {after.shape}"
    )
