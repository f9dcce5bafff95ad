"""The ``polaris-rollout`` command."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from polaris_rollout.cli.temperature import temperature

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sample groups of completions from a reasoning model, and find the temperature to do it at.",
)


@app.callback()
def group() -> None:
    """Sample groups of completions from a reasoning model, and find the temperature to do it at."""


@app.command()
def sample(
    prompts: Annotated[
        Path,
        typer.Argument(help="JSON lines with 'question' (or 'problem', 'prompt') and 'problem_id' (or 'id')."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the parquet files, a row for each completion.")],
    model: Annotated[str, typer.Option(help="A model folder, a Hub id, or 'tiny'.")] = "tiny",
    samples: Annotated[int, typer.Option(help="Completions of each prompt, 1 or more.")] = 8,
    temperature: Annotated[float, typer.Option(help="Divides the logits; 0 takes the most likely token.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus mass; 1 keeps all. For training keep 1.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Most likely tokens kept; 0 keeps all. For training keep 0.")] = 0,
    context: Annotated[
        int | None,
        typer.Option(
            min=2, help="Prompt and answer together, in tokens; the default is all the model has, more derives YaRN."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest answer, in tokens; the default fills the context.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same completions.")] = 0,
    suffix: Annotated[str, typer.Option(help="Appended to every prompt.")] = "",
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="Address of a running `vllm serve`; repeat it for several. The default is vLLM in here."),
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs that share one copy of the model in here.")] = 1,
    stall_limit: Annotated[
        float, typer.Option(min=1, help="Seconds without a new token until the job is ended with exit code 75.")
    ] = 1800.0,
    canary: Annotated[
        bool, typer.Option(help="Compare the engine's log-probabilities with those of transformers first.")
    ] = True,
) -> None:
    r"""Sample answers to every prompt of a file.

    A group (all answers to one prompt) is on disk the moment it is finished:
    in OUT/part-*.parquet in the end, in OUT/part-*.tail until then. Readers of
    polaris_rollout.store.folder.read_store see both at any time. After a kill the
    same command continues, and no finished group is drawn again.

    Columns: problem_id, sample, prompt_token_ids, token_ids, logprobs, text,
    finish_reason, temperature, weights_version, seed.

    Example, with the engine in this process:

    polaris-rollout sample problems.jsonl --model Qwen/Qwen3-4B --out rollouts

    Example, with two servers started by `vllm serve Qwen/Qwen3-4B`:

    polaris-rollout sample problems.jsonl --model Qwen/Qwen3-4B --out rollouts
    --endpoint http://host1:8000 --endpoint http://host2:8000
    """
    import logging

    from polaris_rollout.engines.opening import check_model, open_engine
    from polaris_rollout.engines.watchdog import watch
    from polaris_rollout.errors import SettingError
    from polaris_rollout.progress import track
    from polaris_rollout.records import SamplingParams
    from polaris_rollout.store.folder import RolloutStore
    from polaris_rollout.store.resume import read_prompts, sample_missing

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("polaris_rollout").setLevel(logging.INFO)
    if samples < 1:
        raise SettingError(f"--samples is {samples}; give 1 or more")
    if endpoint and tensor_parallel > 1:
        raise SettingError("--tensor-parallel is for the engine in this process; start the servers with it instead")
    try:
        params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens, seed=seed)
    except ValueError as error:
        raise SettingError(str(error)) from None
    to_sample = read_prompts(prompts, suffix=suffix)
    settings = asdict(params) | {
        "model": model,
        "model_digest": check_model(model, context, endpoints=endpoint or ()),
        "samples": samples,
        "context": context,
        "suffix": suffix,
    }
    with RolloutStore(out, settings) as store:
        missing = [prompt for prompt in to_sample if prompt.problem_id not in store.finished]
        num_before = len(to_sample) - len(missing)
        if missing:
            with open_engine(
                model, context=context, endpoints=endpoint or (), tensor_parallel=tensor_parallel, canary=canary
            ) as engine:
                engine.check_prompts(missing, max_tokens)
                groups = sample_missing(store, missing, engine, params, num_samples=samples)
                with watch(engine, stall_limit_s=stall_limit):
                    for _ in track(groups, total=len(to_sample), done=num_before, engine=engine):
                        pass
    print(f"{len(to_sample)} groups of {samples} completions are in {out}, {num_before} of them from before")


app.command()(temperature)


@app.command()
def simulate(
    problems: Annotated[int, typer.Option(help="Groups of one step.")] = 128,
    samples: Annotated[int, typer.Option(help="Completions of a group.")] = 8,
    slots: Annotated[int, typer.Option(help="Completions that one engine's memory holds at a time.")] = 24,
    mean_tokens: Annotated[float, typer.Option(help="Mean length of a completion.")] = 8192.0,
    max_tokens: Annotated[int, typer.Option(help="Token budget that ends a completion.")] = 53248,
    draws: Annotated[int, typer.Option(min=1, help="Steps that are simulated.")] = 100,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw the table to.")] = None,
) -> None:
    r"""Show what sharing work saves: makespan / ideal on 1 to 64 engines.

    Lengths are heavy-tailed (lognormal, cut at the token budget). Groups are
    dealt out in advance, taken from a shared counter by whichever engine has
    room, or taken so with the longest expected first, as training does it.

    Example: polaris-rollout simulate --problems 64 --slots 32 --plot balance.png
    """
    from polaris_rollout.sharing.simulate import Workload, print_simulation

    workload = Workload(
        num_problems=problems,
        samples_per_problem=samples,
        slots=slots,
        mean_tokens=mean_tokens,
        max_tokens=max_tokens,
    )
    print_simulation(workload, num_seeds=draws, plot=plot)


def main() -> None:
    """Run the command line; an error that a user can mend is one sentence and exit code 2."""
    from polaris_rollout.errors import RolloutError

    try:
        app()
    except RolloutError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
