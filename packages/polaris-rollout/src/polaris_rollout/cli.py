"""The ``polaris-rollout`` command."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sample groups of completions from a reasoning model.",
)


@app.callback()
def group() -> None:
    """Sample groups of completions from a reasoning model."""


@app.command()
def sample(
    prompts: Annotated[
        Path,
        typer.Argument(help="JSON lines with 'question' (or 'problem', 'prompt') and 'problem_id' (or 'id')."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the parquet files, a row for each completion.")],
    model: Annotated[str, typer.Option(help="A model folder, a Hub id, or 'tiny'.")] = "tiny",
    samples: Annotated[int, typer.Option(help="Completions of each prompt, 1 or more.")] = 8,
    temperature: Annotated[float, typer.Option(min=0, help="Divides the logits.")] = 1.0,
    context: Annotated[int | None, typer.Option(min=2, help="Prompt and answer together, in tokens.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same completions.")] = 0,
    suffix: Annotated[str, typer.Option(help="Appended to every prompt.")] = "",
) -> None:
    r"""Sample answers to every prompt of a file.

    Writes OUT/part-*.parquet as groups finish (problem_id, sample, prompt_token_ids, token_ids, logprobs, text,
    finish_reason, temperature, seed) and OUT/settings.json. A killed run continues with the same command.

    Example: polaris-rollout sample problems.jsonl --model Qwen/Qwen3-4B --samples 8 --out rollouts
    """
    from polaris_rollout.errors import SettingError
    from polaris_rollout.job import open_folder, read_prompts, sample_to_folder
    from polaris_rollout.models import check_context, resolve_model
    from polaris_rollout.progress import track
    from polaris_rollout.records import SamplingParams

    if samples < 1:
        raise SettingError(f"--samples is {samples}; give 1 or more")
    to_sample = read_prompts(prompts, suffix=suffix)
    check_context(resolve_model(model), context)
    params = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)
    settings = asdict(params) | {"model": model, "samples": samples, "context": context, "suffix": suffix}
    done = open_folder(out, settings)
    left = [prompt for prompt in to_sample if prompt.problem_id not in done]
    if left:
        from polaris_rollout.vllm_sampler import VllmSampler

        with VllmSampler(model, context=context) as sampler:
            sampler.check_prompts(left, max_tokens)
            groups = sample_to_folder(out, left, sampler, params, num_samples=samples)
            for _ in track(groups, total=len(to_sample), done=len(to_sample) - len(left)):
                pass
    print(f"{len(to_sample)} groups of {samples} completions: {out}")


def main() -> None:
    """Run the command line; an error that a user can mend is one sentence and exit code 2."""
    from polaris_rollout.errors import RolloutError

    try:
        app()
    except RolloutError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
