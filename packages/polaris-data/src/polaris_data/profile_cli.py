"""The command ``polaris-data profile``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from polaris_data.errors import SettingError
from polaris_data.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid, read
from polaris_data.show_cli import print_profile

DEFAULT_MODEL = "tiny"


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
    rows = read(problems, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
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
    print_profile(read_profile(out))
    print(f"\nwrote {out} and {settings_path(out)}")


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
