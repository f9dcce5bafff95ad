"""The ``polaris-rollout`` command."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from polaris_rollout.cli.options import engine_options
from polaris_rollout.cli.temperature import temperature
from polaris_rollout.contracts import EngineSpec
from polaris_rollout.records import PROMPT_SUFFIX

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


@app.callback()
def group() -> None:
    """Sample groups of completions from a reasoning model, and find the temperature to do it at."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("polaris_rollout").setLevel(logging.INFO)


@app.command()
@engine_options(prompts=True)
def sample(
    prompts: Annotated[
        Path,
        typer.Argument(help="JSON lines with 'question' (or 'problem', 'prompt') and 'problem_id' (or 'id')."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the parquet files, a row for each completion.")],
    engine: EngineSpec,
    samples: Annotated[int, typer.Option(help="Completions of each prompt, 1 or more.")] = 8,
    temperature: Annotated[float, typer.Option(help="Divides the logits; 0 takes the most likely token.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus mass; 1 keeps all. For training keep 1.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Most likely tokens kept; 0 keeps all. For training keep 0.")] = 0,
    min_p: Annotated[
        float,
        typer.Option(help="Leave out tokens less likely than this share of the likeliest. For training keep 0."),
    ] = 0.0,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            help="End an answer where this text begins, and leave it out; repeatable. For training give none.",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest answer, in tokens; the default fills the context.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same completions.")] = 0,
    suffix: Annotated[str, typer.Option(help=f"Appended to every prompt; training appends {PROMPT_SUFFIX!r}.")] = "",
) -> None:
    r"""Sample answers to every prompt of a file.

    A group (all answers to one prompt) is on disk the moment it is finished:
    in OUT/part-*.parquet in the end, in OUT/part-*.tail until then. Readers of
    polaris_rollout.store.read_store see both at any time. After a kill the
    same command continues, and no finished group is drawn again.

    Columns: problem_id, sample, prompt_token_ids, token_ids, logprobs, text,
    finish_reason, temperature, weights_version, seed, prefilled.

    Example, with the engine in this process:

    polaris-rollout sample problems.jsonl --model Qwen/Qwen3-4B --out rollouts

    Example, with two servers started by `vllm serve Qwen/Qwen3-4B`:

    polaris-rollout sample problems.jsonl --model Qwen/Qwen3-4B --out rollouts
    --endpoint http://host1:8000 --endpoint http://host2:8000

    Example, with an engine on every two GPUs:

    polaris-rollout sample problems.jsonl --model Qwen/Qwen3-32B --out rollouts
    --tensor-parallel 2
    """
    from polaris_rollout.engines.sampling import sample_file
    from polaris_rollout.errors import SettingError
    from polaris_rollout.records import SamplingParams

    if samples < 1:
        raise SettingError(f"--samples is {samples}; give 1 or more")
    params = SamplingParams(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        stop=tuple(stop or ()),
        max_tokens=max_tokens,
        seed=seed,
    )
    print(f"{out}: {sample_file(prompts, out, engine, params, num_samples=samples, suffix=suffix)}")


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
    engines: Annotated[int, typer.Option(min=1, help="Engines of the second table.")] = 8,
    update: Annotated[
        float, typer.Option(help="How long an update takes, as a share of the mean time of a step's sampling.")
    ] = 1.0,
    finish_times: Annotated[
        Path | None,
        typer.Option(help="JSON lines of when the requests of recorded evaluations finished; each is a step."),
    ] = None,
) -> None:
    r"""Show what sharing work saves, and what sampling ahead does.

    The first table is makespan / ideal of one step on 1 to 64 engines. Lengths
    are heavy-tailed (lognormal, cut at the token budget). Groups are dealt out
    in advance, taken from a shared counter by whichever engine has room, or
    taken so with the longest expected first, as training does it.

    The second is a run of such steps, or of recorded ones alone, in which 0, 1
    or 2 steps are sampled ahead of the updates (`sampling_ahead` of a recipe):
    the time of a step, and how long engines and trainer have nothing to do.

    Example: polaris-rollout simulate --problems 64 --slots 32 --plot balance.png

    Example: polaris-rollout simulate --finish-times times.jsonl --update 0.5
    """
    from polaris_rollout.sharing.ahead import drawn_steps, print_ahead, read_finish_times
    from polaris_rollout.sharing.simulate import Workload, print_simulation

    if finish_times is not None:
        print_ahead(read_finish_times(finish_times), update=update)
        return

    workload = Workload(
        num_problems=problems,
        samples_per_problem=samples,
        slots=slots,
        mean_tokens=mean_tokens,
        max_tokens=max_tokens,
    )
    print_simulation(workload, num_seeds=draws, plot=plot)
    steps = {f"{problems} x {samples}": drawn_steps(workload, draws)}
    print_ahead(steps, update=update, num_engines=engines, slots=slots)


def main() -> None:
    """Run the command line; an error that a user can mend is one sentence and exit code 2."""
    from polaris_rollout.errors import RolloutError

    try:
        app()
    except RolloutError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
