"""The command ``polaris-data profile``."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from polaris_rollout import EngineSpec
from polaris_rollout.cli import engine_options

from polaris_data.cli.options import Suffix, source_options
from polaris_data.cli.selection import print_profile
from polaris_data.errors import SettingError
from polaris_data.problems.source import Source
from polaris_data.records import PROMPT_SUFFIX

if TYPE_CHECKING:
    from polaris_rollout import SamplingParams

    from polaris_data.profile.adaptive import Settling
    from polaris_data.records import Problem

DEFAULT_MODEL = "tiny"


@source_options
@engine_options(demo_model=False, least_context=1)
def profile_command(
    problems: Source,
    engine: EngineSpec,
    samples: Annotated[
        int, typer.Option(help="Answers sampled for each problem, 1 or more; with --adaptive at most so many.")
    ] = 8,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Divides the logits.  [default: 1]", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens.  [default: fills the context]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    suffix: Suffix = PROMPT_SUFFIX,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Stop sampling a problem once the rest cannot change what --bound asks.")
    ] = False,
    bound: Annotated[
        list[float] | None,
        typer.Option(
            help="What --adaptive settles: whether all --samples answers reach this accuracy; 1 is 'always solved', "
            "0.01 'ever solved'. Repeat it for bins.  [default: 1]",
            show_default=False,
        ),
    ] = None,
    at_a_time: Annotated[
        int, typer.Option(help="Answers that --adaptive draws between two looks; a divisor of --samples.")
    ] = 1,
    completions: Annotated[
        Path | None,
        typer.Option(
            help="Sample nothing: take the answers from what an earlier profile (NAME.rollouts) or "
            "`polaris-rollout sample` wrote, or from a file of answers, graded or not.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="File to write.  [default: ./NAME.profile.jsonl]", show_default=False),
    ] = None,
) -> None:
    """Measure how often a model solves each problem.

    Reads PROBLEMS, samples answers with vLLM, grades them, and writes one line for each problem to --out
    (samples, correct, truncated, mean tokens) and the settings beside it (OUT.settings.json). Every answer and its
    grade is kept in NAME.rollouts the moment its group is finished: after an interruption the same command samples
    only what is left, and with a mended grader --completions grades them again.

    Examples:

        polaris-data profile synthetic --limit 64
        polaris-data profile train.jsonl --model Qwen/Qwen3-4B --temperature 1.4 --context 40960
        polaris-data profile train.jsonl --model Qwen/Qwen3-4B --adaptive --endpoint http://host:8000
        polaris-data profile train.jsonl --completions train.profile.rollouts --out again.jsonl
    """
    from polaris_data.files.journal import settings_path
    from polaris_data.profile.files import read_profile

    if samples < 1:
        raise SettingError(f"--samples is {samples}; give 1 or more")
    out = out or Path(f"{problems.label}.profile.jsonl")
    if completions is not None:
        if adaptive or engine.endpoints:
            raise SettingError("--completions samples nothing; leave out --adaptive and --endpoint")
        from polaris_data.profile.counting import count_completions

        rows = problems.read()
        asked = {"temperature": temperature, "context": engine.context, "max_tokens": max_tokens}
        wanted = {"model": engine.model or None} | asked
        if not count_completions(rows, completions, out, wanted=wanted):
            print(f"{out} is complete: nothing is counted", file=sys.stderr)
    else:
        from polaris_rollout import SamplingParams

        from polaris_data.profile.adaptive import Settling
        from polaris_data.profile.sampling import profile_settings

        engine = engine if engine.model else replace(engine, model=_default_model())
        rows = problems.read()
        settling = None
        if adaptive:
            settling = Settling(bounds=tuple(sorted(bound or [1.0])), at_a_time=at_a_time)
        params = SamplingParams(
            temperature=1.0 if temperature is None else temperature, max_tokens=max_tokens, seed=seed
        )
        settings = profile_settings(rows, engine, params=params, num_samples=samples, settling=settling, suffix=suffix)
        _sample(rows, out, engine, settings, params, settling)
    print_profile(read_profile(out))
    print(f"\nwrote {out} and {settings_path(out)}")


def _sample(
    rows: "list[Problem]",
    out: Path,
    spec: EngineSpec,
    settings: dict[str, Any],
    params: "SamplingParams",
    settling: "Settling | None",
) -> None:
    """Write the profile of a model, or what is left of it."""
    from polaris_data.files.journal import Journal, check_output, claim_output
    from polaris_data.files.lock import locked_output
    from polaris_data.profile.files import rollouts_path
    from polaris_data.profile.rollouts import ProfileRollouts
    from polaris_data.profile.sampling import profile, to_prompts
    from polaris_data.profile.schedule import Schedule

    folder = rollouts_path(out)
    check_output(out, settings, beside=[folder])
    Schedule([], num_samples=settings["num_samples"], settling=settling)  # Refuses numbers that do not go together.
    with locked_output(out):
        journal = Journal(out)
        if journal.finished:
            print(f"{out} is complete: nothing is sampled", file=sys.stderr)
            return
        from polaris_reward import boxed_grader
        from polaris_rollout.engines import open_engine, watch

        kept = bool(not journal.records or folder.exists())
        if not kept:
            print(
                f"{out} was begun without {folder}: its completions are not kept; choose another --out to keep them",
                file=sys.stderr,
            )
        with ExitStack() as stack:
            grader, engine = stack.enter_context(boxed_grader()), stack.enter_context(open_engine(spec))
            engine.check_prompts(to_prompts(rows, suffix=settings["suffix"]), params.max_tokens)
            claim_output(out, settings)
            rollouts = stack.enter_context(ProfileRollouts(folder, settings, params)) if kept else None
            with watch(engine, stall_limit_s=spec.stall_limit_s, label="profiling"):
                for _ in profile(
                    rows,
                    engine,
                    grader.grade_many,
                    params=params,
                    num_samples=settings["num_samples"],
                    journal=journal,
                    settling=settling,
                    suffix=settings["suffix"],
                    rollouts=rollouts,
                ):
                    pass


def _default_model() -> str:
    print(f"no --model given: using {DEFAULT_MODEL!r}, the demonstration model of polaris-train", file=sys.stderr)
    return DEFAULT_MODEL
