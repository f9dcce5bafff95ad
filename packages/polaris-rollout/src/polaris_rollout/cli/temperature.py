"""The command ``polaris-rollout temperature``."""

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from polaris_rollout.records import Engine, Group
    from polaris_rollout.temperature.budget import Floats, Probe
    from polaris_rollout.temperature.measure import ProbeProblem
    from polaris_rollout.temperature.report import Earlier

logger = logging.getLogger(__name__)


def temperature(
    problems: Annotated[
        Path,
        typer.Argument(help="Held-out training problems: JSON lines with 'question', 'answer' and 'problem_id'."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for temperature.json, the plot, and all answers drawn.")],
    model: Annotated[str, typer.Option(help="A model folder, a Hub id, or 'tiny'.")] = "tiny",
    target_diversity: Annotated[
        float | None, typer.Option(help="Find the temperature with this diversity, between 0 and 1.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Find the temperature with the diversity chosen in this folder (RUN/STAGE), by problem."),
    ] = None,
    max_loss: Annotated[
        float, typer.Option(help="Share of the accuracy that may be lost where exploration starts.")
    ] = 0.02,
    lowest: Annotated[float, typer.Option(help="Lowest temperature to probe.")] = 0.6,
    highest: Annotated[float, typer.Option(help="Highest temperature to probe.")] = 2.0,
    num_problems: Annotated[int, typer.Option(help="Problems to probe with, drawn from the file.")] = 64,
    batch: Annotated[int, typer.Option(min=2, help="Answers of each problem drawn at once.")] = 4,
    answers: Annotated[
        int | None,
        typer.Option(help="Answers of each problem in all; the default is 80, or 26 for a target."),
    ] = None,
    token_budget: Annotated[int | None, typer.Option(min=1, help="Stop drawing after this many tokens.")] = None,
    context: Annotated[int | None, typer.Option(min=2, help="Prompt and answer together, in tokens.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    seed: Annotated[int, typer.Option(help="Of the answers and of the choice of problems.")] = 0,
    suffix: Annotated[str, typer.Option(help="Appended to every question; the same as in training.")] = "",
    grader: Annotated[str, typer.Option(help="'polaris' (polaris-reward), or MODULE:FUNCTION.")] = "polaris",
    endpoint: Annotated[
        list[str] | None, typer.Option(help="Address of a running `vllm serve`; repeat it for several.")
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs that share one copy of the model in here.")] = 1,
    stall_limit: Annotated[float, typer.Option(min=1, help="Seconds without a new token until the job is ended.")] = (
        1800.0
    ),
    canary: Annotated[bool, typer.Option(help="Compare the engine with transformers first.")] = True,
) -> None:
    r"""Find the temperature to sample with, on problems that are not trained on.

    Without a target: where controlled exploration starts, the highest
    temperature whose loss of accuracy stays within --max-loss (stage 1).
    With --like or --target-diversity: the temperature whose diversity equals
    that of an earlier stage, never in collapse (later stages).

    Diversity is the share of distinct 4-grams of tokens expected in BATCH
    answers of a fixed length, so it depends on neither the number nor the
    length of the answers. Temperatures are probed where the decision is most
    uncertain. All answers are kept in OUT/probes; the same command continues.

    Examples:

    polaris-rollout temperature held-out.jsonl --model Qwen/Qwen3-4B --context 40960 --out runs/mine/stage-1

    polaris-rollout temperature held-out.jsonl --model runs/mine/stage-1/model --like runs/mine/stage-1 --out
    runs/mine/stage-2
    """
    from rich.console import Console

    from polaris_rollout.engines.opening import check_model
    from polaris_rollout.errors import SettingError
    from polaris_rollout.records import SamplingParams
    from polaris_rollout.temperature.budget import ProbeRun
    from polaris_rollout.temperature.diversity import bootstrap_interval
    from polaris_rollout.temperature.graders import open_grader
    from polaris_rollout.temperature.measure import ModelProbe, read_probe_problems
    from polaris_rollout.temperature.report import (
        describe_decision,
        draw_report,
        read_earlier,
        report_table,
        to_report,
        write_report,
    )
    from polaris_rollout.temperature.search import TARGET_ANSWERS, ZONES_ANSWERS, find_diversity, find_exploration_start

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("polaris_rollout").setLevel(logging.INFO)
    if target_diversity is not None and like is not None:
        raise SettingError("give --target-diversity or --like, not both")
    if target_diversity is not None and not 0 < target_diversity < 1:
        raise SettingError(f"--target-diversity is {target_diversity:g}; give a share between 0 and 1")
    if not 0 < max_loss < 1:
        raise SettingError(f"--max-loss is {max_loss:g}; give a share between 0 and 1")
    earlier = read_earlier(like) if like else None
    batch = earlier.num_samples if earlier else batch
    chosen = read_probe_problems(problems, suffix=suffix, num_problems=num_problems, seed=seed)
    if earlier:
        chosen = _those_of(earlier, problems, read_probe_problems(problems, suffix=suffix, num_problems=10**9, seed=0))
    bootstrap_interval([0.0] * len(chosen))  # refuses too few problems
    digest = check_model(model, context, endpoints=endpoint or ())
    params = SamplingParams(max_tokens=max_tokens, seed=seed)
    settings = {"model": model, "model_digest": digest, "context": context, "suffix": suffix}
    has_target = earlier is not None or target_diversity is not None
    with ExitStack() as stack:
        engine = _LazyEngine(
            stack,
            model=model,
            context=context,
            endpoints=endpoint or (),
            tensor_parallel=tensor_parallel,
            canary=canary,
            chosen=chosen,
            max_tokens=max_tokens,
            stall_limit_s=stall_limit,
        )
        probe = ModelProbe(
            chosen,
            engine.open,
            stack.enter_context(open_grader(grader)),
            folder=out / "probes",
            params=params,
            batch=batch,
            num_tokens=earlier.num_tokens if earlier else None,
            settings=settings,
            follow=engine.follow,
        )
        most = answers or (TARGET_ANSWERS if has_target else ZONES_ANSWERS)

        def measure(at: float, num_samples: int) -> "Probe":
            measured = probe.measure(at, num_samples)
            logger.info("%s  %d of %d answers a problem", _describe(measured), run.num_answers + batch, most)
            return measured

        run = ProbeRun(
            measure,
            batch=batch,
            max_answers=most,
            max_tokens=token_budget or float("inf"),
            lowest=lowest,
            highest=highest,
        )
        target = _target(earlier, chosen, target_diversity)
        if target is None:
            choice = find_exploration_start(run, max_loss=max_loss, seed=seed)
        else:
            choice = find_diversity(run, target, max_loss=max_loss, seed=seed)
    report = to_report(
        run,
        choice,
        probe.textures,
        problem_ids=[each.prompt.problem_id for each in chosen],
        num_tokens=probe.num_tokens or 0,
        batch=batch,
        target=None if target is None else _mean(target),
        max_loss=max_loss,
        settings=settings | asdict(params) | {"problems": str(problems), "like": str(like) if like else None},
    )
    path = write_report(out, report)
    drawn = draw_report(report, out)
    console = Console(highlight=False, soft_wrap=True)
    console.print(report_table(report))
    console.print(f"\n{describe_decision(report)}\nwrote {path}, {' and '.join(map(str, drawn))}", markup=False)


class _LazyEngine:
    """The engine, opened when the first answer must be drawn: a repeated search needs none."""

    def __init__(
        self,
        stack: ExitStack,
        *,
        chosen: "list[ProbeProblem]",
        max_tokens: int | None,
        stall_limit_s: float,
        **options: Any,
    ) -> None:
        self._stack, self._options = stack, options
        self._chosen, self._max_tokens, self._stall_limit_s = chosen, max_tokens, stall_limit_s
        self._engine: Engine | None = None

    def open(self) -> "Engine":
        if self._engine is None:
            from polaris_rollout.engines.opening import open_engine

            self._engine = self._stack.enter_context(open_engine(**self._options))
            self._engine.check_prompts([each.prompt for each in self._chosen], self._max_tokens)
        return self._engine

    def follow(self, groups: "Iterator[Group]", total: int, label: str) -> "Iterator[Group]":
        from polaris_rollout.engines.watchdog import watch
        from polaris_rollout.progress import track

        with watch(self.open(), stall_limit_s=self._stall_limit_s, label=label):
            yield from track(groups, total=total, label=label, engine=self._engine)


def _those_of(earlier: "Earlier", path: Path, problems: "list[ProbeProblem]") -> "list[ProbeProblem]":
    """Return the problems that the earlier stage was probed with."""
    from polaris_rollout.errors import SettingError

    found = [each for each in problems if each.prompt.problem_id in earlier.diversity_by_problem]
    if len(found) < len(earlier.diversity_by_problem):
        raise SettingError(
            f"{path} has {len(found)} of the {len(earlier.diversity_by_problem)} problems that the earlier stage was "
            "probed with; give the same file of held-out problems"
        )
    return found


def _target(earlier: "Earlier | None", chosen: "list[ProbeProblem]", target: float | None) -> "float | Floats | None":
    import numpy as np

    if earlier is None:
        return target
    return np.array([earlier.diversity_by_problem[each.prompt.problem_id] for each in chosen])


def _mean(target: "float | Floats") -> float:
    import numpy as np

    return float(np.mean(target))


def _describe(probe: "Probe") -> str:
    import numpy as np

    return (
        f"temperature {probe.temperature:.2f}: accuracy {probe.accuracy.mean():.3f}, "
        f"diversity {np.nanmean(probe.diversity):.3f}, truncated {probe.truncated.mean():.1%}, "
        f"{probe.tokens.mean():,.0f} tokens;"
    )
