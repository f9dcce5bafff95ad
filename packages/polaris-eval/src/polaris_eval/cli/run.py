"""The command ``polaris-eval run``."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from polaris_data import PROMPT_SUFFIX
from polaris_rollout import ChatFormat, EngineSpec, SamplingParams
from polaris_rollout.cli import engine_options

from polaris_eval.benchmarks.presets import PRESETS, Preset, find_preset
from polaris_eval.errors import SettingError

DEFAULT_MODEL = "tiny"


def _option(help_text: str, default: str = "", **more: Any) -> Any:
    """Declare an option whose default is the preset's, or else this one."""
    shown = f"  [default: {default}]" if default else ""
    return typer.Option(help=f"{help_text}{shown}", show_default=False, **more)


@engine_options(demo_model=False, least_context=None, yarn_factor=True, prompts=True, text_only=True)
def run_command(
    benchmarks: Annotated[
        list[str], typer.Argument(metavar="BENCHMARK...", help="Names (see `list`) or files of problems.")
    ],
    engine: EngineSpec,
    preset: Annotated[
        str | None,
        _option(f"Take published settings, of which every option wins that is given: {', '.join(PRESETS)}."),
    ] = None,
    generation_config: Annotated[
        bool,
        typer.Option(
            "--generation-config",
            help="Take temperature, top-p, top-k and min-p from the model's generation_config.json, as its makers "
            "recommend; options that are given win.",
        ),
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(help="Completions per problem and seed; the default is the benchmark's k, 8 for a file."),
    ] = None,
    temperature: Annotated[
        float | None, _option("0 takes the most likely token; the published evaluation uses 1.4.", "1.0")
    ] = None,
    top_k: Annotated[
        int | None, _option("Most likely tokens kept; 0 keeps all; the published evaluation uses 20.", "0")
    ] = None,
    top_p: Annotated[float | None, _option("Nucleus mass; 1 keeps all.", "1.0")] = None,
    min_p: Annotated[
        float | None, _option("Leave out tokens less likely than this share of the likeliest; 0 keeps all.", "0.0")
    ] = None,
    stop: Annotated[
        list[str] | None,
        _option("End a completion where this text begins, as few-shot prompts of base models need; repeatable."),
    ] = None,
    max_tokens: Annotated[int | None, _option("Longest completion, in tokens.", "fills the context")] = None,
    few_shot: Annotated[
        Path | None,
        _option(
            "Text before every question, as it is; or JSON lines of worked examples ('question', 'solution'), each "
            "asked like the question itself.",
            metavar="FILE",
        ),
    ] = None,
    suffix: Annotated[
        str | None, _option("After every question; give what the model was trained with.", PROMPT_SUFFIX.strip())
    ] = None,
    where: Annotated[
        list[str] | None,
        _option(
            "Only problems with one of these values in that column, such as answer_type=Numerical for the 572 numeric "
            "ones of OlympiadBench; NAME: before it chooses in that benchmark alone. Repeatable.",
            metavar="COLUMN=VALUE,...",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        _option("The same seed draws the same completions; repeat it to see how much chance there is.", "0"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first problems of each benchmark.")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of local copies (NAME.jsonl); the default is $POLARIS_BENCHMARKS."),
    ] = None,
    budgets: Annotated[
        str | None,
        _option(
            "Grade longer completions also as if they had been cut to so many tokens: 32768,49152 or none.",
            "32, 48, 64, 80 and 96K below the longest completion, else sixths of that",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Only tell what would be sampled, and the smallest difference between two models that so many "
            "problems and samples can tell; start and write nothing.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write; the default is eval/MODEL.")] = None,
) -> None:
    """Sample and grade benchmarks, and print mean@k with a 95% interval.

    Reads each benchmark from --data-dir, else from the Hugging Face Hub; a file is read as it is. The completions of
    all benchmarks are sampled together and graded meanwhile. Writes OUT/BENCHMARK/completions.jsonl,
    OUT/BENCHMARK/settings.json, OUT/scores.json with the protocol (everything that can change a score), OUT/report.md
    and OUT/report.html. Every finished completion is kept: the same command continues after a kill, and prints the
    table again once everything is done.

    Examples:

        polaris-eval run aime24 my-problems.jsonl --model Qwen/Qwen3-4B --top-k 20
        polaris-eval run aime24 --model runs/r1/stage-1/model --preset polaris-4b
        polaris-eval run math500 --model Qwen/Qwen3-4B --endpoint http://host:8000
    """
    from polaris_eval.running.budgets import default_budgets, parse_budgets
    from polaris_eval.running.job import plan_jobs
    from polaris_eval.running.protocol import run_settings
    from polaris_eval.running.run import CONVENTION, run_jobs
    from polaris_eval.running.wording import Wording, read_few_shot

    _show_progress()
    if not engine.model:
        print(f"no --model: evaluating the demonstration model {DEFAULT_MODEL!r}", file=sys.stderr)
        engine = replace(engine, model=DEFAULT_MODEL)
    chosen = find_preset(preset) if preset else None
    params = _params(
        _defaults(chosen, engine.model if generation_config else None),
        {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p, "max_tokens": max_tokens},
        seeds=seed or [0],
        stop=tuple(stop or ()),
    )
    out = out or Path("eval") / Path(engine.model).absolute().name
    engine = _engine(engine, chosen, out)
    suffix = suffix if suffix is not None else chosen.suffix if chosen else PROMPT_SUFFIX
    wording = Wording(prefix=read_few_shot(few_shot, suffix=suffix) if few_shot else "", suffix=suffix)
    settings = run_settings(
        engine,
        params=params,
        convention=CONVENTION,
        budgets=default_budgets(_longest(engine, params)) if budgets is None else parse_budgets(budgets),
        wording=wording,
        seeds=seed or [],
    )
    jobs = plan_jobs(
        benchmarks,
        out=out,
        settings=settings,
        num_samples=samples,
        data_dir=data_dir,
        limit=limit,
        where=where or [],
    )

    from polaris_eval.report.documents import write_reports
    from polaris_eval.report.tables import print_evaluations, print_plan

    if plan:
        print_plan([(job.name, len(job.problems), job.num_samples) for job in jobs])
        return
    evaluations = run_jobs(jobs, engine, params=params, out=out, wording=wording)
    pages = write_reports(out)
    print_evaluations(evaluations, model=engine.model)
    _print_published([job.settings for job in jobs])
    print(f"scores: {out / 'scores.json'}\ncompletions: {out}/BENCHMARK/completions.jsonl")
    print(f"report: {' and '.join(map(str, pages))}")


def _defaults(preset: Preset | None, makers_of: str | None) -> dict[str, Any]:
    """Return what is sampled with where no option says otherwise."""
    if makers_of is not None:
        from polaris_rollout import generation_params

        if preset:
            raise SettingError("--preset and --generation-config are two answers to one question; give one of them")
        makers = generation_params(makers_of)
        return {name: getattr(makers, name) for name in ("temperature", "top_p", "top_k", "min_p")}
    names = ("temperature", "top_p", "top_k", "max_tokens")
    return {name: getattr(preset, name) for name in names} if preset else {}


def _params(
    defaults: dict[str, Any], given: dict[str, Any], *, seeds: list[int], stop: tuple[str, ...]
) -> SamplingParams:
    if len(set(seeds)) < len(seeds):
        raise SettingError(f"--seed is given twice as {seeds}; each seed draws its own completions: make them differ")
    said = {name: value for name, value in given.items() if value is not None}
    return SamplingParams(**defaults | said, stop=stop, seed=seeds[0])


def _engine(engine: EngineSpec, preset: Preset | None, out: Path) -> EngineSpec:
    """Fill in what follows from the preset, from YaRN's factor, and from what the servers are."""
    if preset and engine.chat == ChatFormat():
        chat = ChatFormat(system_prompt=preset.system_prompt, arguments=preset.chat_arguments)
        engine = replace(engine, chat=chat)
    if preset and engine.context is None and not engine.endpoints:
        engine = replace(engine, context=preset.context)
    if engine.yarn_factor is not None and engine.context is None:
        from polaris_rollout import model_config, resolve_model, yarn_config

        yarn = yarn_config(model_config(resolve_model(engine.model)), None, factor=engine.yarn_factor)
        engine = replace(engine, context=yarn["max_position_embeddings"])
    if engine.endpoints and not engine.text_only:
        from polaris_rollout.servers import are_text_only

        from polaris_eval.running.protocol import is_of_texts

        engine = replace(engine, text_only=is_of_texts(out) or are_text_only(engine.endpoints))
    return engine


def _longest(engine: EngineSpec, params: SamplingParams) -> int | None:
    """Return the longest completion that is allowed; ``None`` if only the servers know."""
    from polaris_rollout import model_positions, resolve_model

    found = params.max_tokens or engine.context
    return found or (None if engine.endpoints else model_positions(resolve_model(engine.model)))


def _print_published(settings: list[Any]) -> None:
    from polaris_eval.benchmarks.published import published_beside

    lines = [line for each in settings for line in published_beside(each)]
    if lines:
        print("\n" + "\n".join(lines))


def _show_progress() -> None:
    """Let the lines of progress reach stderr that stand for the bar where none can be drawn."""
    import logging

    logger = logging.getLogger("polaris_rollout")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
