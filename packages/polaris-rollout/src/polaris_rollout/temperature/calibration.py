"""Finding a model's temperature on problems that are not trained on: sample, grade, search, report."""

import logging
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polaris_rollout.contracts import Engine, EngineSpec
from polaris_rollout.engines.opening import check_model, open_engine
from polaris_rollout.engines.watchdog import watch
from polaris_rollout.errors import SettingError
from polaris_rollout.progress import track
from polaris_rollout.records import MAX_TEMPERATURE, PROMPT_SUFFIX, Group, Prompt, SamplingParams, derive_seed
from polaris_rollout.temperature.budget import Floats, Probe, ProbeRun
from polaris_rollout.temperature.diversity import bootstrap_interval
from polaris_rollout.temperature.doubts import doubts
from polaris_rollout.temperature.drawing import draw_report
from polaris_rollout.temperature.graders import open_grader
from polaris_rollout.temperature.measure import (
    DiversityMeasure,
    MeasureName,
    ModelProbe,
    ProbeProblem,
    draw_problems,
    read_probe_problems,
)
from polaris_rollout.temperature.report import Earlier, quantity_of, read_earlier, to_report, write_report
from polaris_rollout.temperature.search import (
    TARGET_ANSWERS,
    ZONES_ANSWERS,
    Choice,
    find_diversity,
    find_exploration_start,
    measure_given,
)

logger = logging.getLogger(__name__)

BATCHES: dict[MeasureName, int] = {"expected": 4, "published": 32, "entropy": 4}
"""Answers of a problem that diversity is taken of: the published figures are of 32, the published search of 16."""

LEAST_BASE = 16
"""Problems that are asked at every temperature, at least, for the zones of accuracy; fewer if fewer are to be asked."""

MOST_BATCHES = 8
"""Batches of problems that a search for a target may ask, those that are asked everywhere included."""

LEAST_BATCHES = 6
"""Batches that a search may take at least, whatever their size."""

MANY_LEFT_OUT = 0.02
"""Share of truncated answers left out by an earlier version from which on it is mentioned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is searched for, and how."""

    target_diversity: float | None = None
    """To be reached, between 0 and 1; without any target, where exploration starts is searched for."""

    target_entropy: float | None = None
    """Mean entropy of a token at the temperature that draws it, in nats, to be reached instead of a diversity."""

    like: Path | None = None
    """Folder of an earlier stage whose diversity is to be reached, problem by problem."""

    at: float | None = None
    """Search for nothing: measure this temperature, whose diversity a later stage is to restore."""

    max_loss: float = 0.02
    """Share of the accuracy that may be lost where exploration starts."""

    lowest: float = 0.6
    """Lowest temperature to probe."""

    highest: float = MAX_TEMPERATURE
    """Highest temperature to probe."""

    num_problems: int = 64
    """Problems to probe with, drawn from those given. For ``target_diversity`` half of them are asked at every
    temperature, and then others of those given, each once: what differs between problems is most of the error."""

    measure: MeasureName = "expected"
    """Of diversity; with ``like`` that of the earlier stage."""

    batch: int | None = None
    """Answers of each problem drawn at once; ``None`` is 4, or 32 with the published measure; with ``like`` as many as
    there."""

    answers: int | None = None
    """Answers of each problem in all; ``None`` is 80, or 26 for a target or ``at``, and at least six batches."""

    token_budget: int | None = None
    """Tokens after which nothing more is drawn."""

    max_tokens: int | None = None
    """Longest answer, in tokens; ``None`` fills the context."""

    seed: int = 0
    """Of the answers and of the choice of problems."""

    suffix: str = PROMPT_SUFFIX
    """Appended to every question of a file; the same as in training."""

    grader: str = "polaris"
    """As `open_grader` takes it."""


def calibrate(
    problems: Path | Sequence[ProbeProblem], out: Path, spec: EngineSpec, calibration: Calibration
) -> dict[str, Any]:
    """Search for a temperature and write ``temperature.json`` and the plot.

    All answers are kept in ``out/probes``, so that the same call continues after a kill.

    Args:
        problems: Held out from training: JSON lines as `read_probe_problems` takes them, or the problems themselves.
        out: Folder to write to.
        spec: The engine; opened when the first answer must be drawn, so that a repeated search needs none.
        calibration: What is searched for.

    Returns:
        The report; see `to_report`.

    Raises:
        RolloutError: If the settings, the problems, the model or the engine cannot be used.
    """
    _check(calibration)
    earlier = read_earlier(calibration.like) if calibration.like else None
    measure = earlier.measure if earlier else _measure(calibration)
    chosen, num_base = _choose(problems, calibration, earlier)
    bootstrap_interval([0.0] * num_base)  # refuses too few problems
    params = SamplingParams(max_tokens=calibration.max_tokens, seed=calibration.seed)
    settings = {
        "model": spec.model,
        "model_digest": check_model(spec),
        "context": spec.context,
        "suffix": calibration.suffix,
        **spec.option_settings(),
    }
    target = _target(chosen, calibration, earlier)
    with ExitStack() as stack:
        probe = ModelProbe(
            chosen,
            _LazyEngine(stack, spec, [each.prompt for each in chosen]),
            stack.enter_context(open_grader(calibration.grader)),
            # Answers of plain extrapolation and of YaRN are never mixed.
            folder=out / ("probes-extended" if spec.extend_positions else "probes"),
            params=params,
            measure=measure,
            settings=settings,
        )
        run = _prepare(probe, calibration, num_base=num_base, searches_zones=target is None and calibration.at is None)
        choice = _choose_temperature(run, calibration, target)
    warnings = doubts(run, choice, target=target, max_loss=calibration.max_loss)
    told = {"problems": str(problems) if isinstance(problems, Path) else None}
    told["like"] = str(calibration.like) if calibration.like else None
    report = to_report(
        run,
        choice,
        probe,
        target=None if target is None else float(np.mean(target)),
        max_loss=calibration.max_loss,
        warnings=[*warnings, *_of_earlier(earlier)],
        settings=settings | params.settings() | told,
    )
    write_report(out, report)
    draw_report(report, out)
    return report


def _measure(calibration: Calibration) -> DiversityMeasure:
    name = calibration.measure if calibration.target_entropy is None else "entropy"
    return DiversityMeasure(name=name, num_samples=calibration.batch or BATCHES[name], num_tokens=None)


def _prepare(probe: ModelProbe, calibration: Calibration, *, num_base: int, searches_zones: bool) -> ProbeRun:
    """Return a run that says after every batch what was seen."""
    at, batch, num_problems = calibration.at, probe.batch, len(probe.problem_ids)
    default = max(ZONES_ANSWERS if searches_zones else TARGET_ANSWERS, LEAST_BATCHES * batch)
    most = calibration.answers or default
    # Those that are asked everywhere are fewer than was asked for where a target is searched: they share its budget.
    most = most * min(calibration.num_problems, num_problems) // num_base if num_base < num_problems else most

    def measure(temperature: float, num_samples: int, asked: Sequence[int]) -> Probe:
        measured = probe.measure(temperature, num_samples, asked)
        said = _describe(measured, run.quantity)
        logger.info("%s of %d problems; %d answers a problem before", said, len(asked), run.num_answers)
        return measured

    run = ProbeRun(
        measure,
        num_problems=num_base,
        batch=batch,
        max_answers=most,
        max_tokens=calibration.token_budget or float("inf"),
        bounds=(
            calibration.lowest if at is None or at > calibration.lowest else at / 2,
            calibration.highest if at is None or at < calibration.highest else MAX_TEMPERATURE,
        ),
        given=at,
        num_fresh=num_problems - num_base,
        quantity=quantity_of(probe.name),
    )
    return run


def _of_earlier(earlier: Earlier | None) -> list[str]:
    if earlier is None or earlier.left_out < MANY_LEFT_OUT:
        return []
    return [
        f"the earlier stage's report is of an older version, which left {earlier.left_out:.0%} truncated answers out "
        "of the diversity, and here they count; search that stage again to compare like with like"
    ]


def _choose_temperature(run: ProbeRun, calibration: Calibration, target: float | Floats | None) -> Choice:
    max_loss, seed = calibration.max_loss, calibration.seed
    if calibration.at is not None:
        return measure_given(run, calibration.at, max_loss=max_loss, seed=seed)
    if target is None:
        return find_exploration_start(run, max_loss=max_loss, seed=seed)
    return find_diversity(run, target, max_loss=max_loss, seed=seed)


class _LazyEngine:
    """A sampler that opens its engine when the first answer must be drawn."""

    def __init__(self, stack: ExitStack, spec: EngineSpec, prompts: Sequence[Prompt]) -> None:
        self._stack, self._spec, self._prompts = stack, spec, prompts
        self._engine: Engine | None = None

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        if self._engine is None:
            self._engine = self._stack.enter_context(open_engine(self._spec))
            self._engine.check_prompts(self._prompts, params.max_tokens)
        prompts, label = list(prompts), f"temperature {params.temperature:g}"
        with watch(self._engine, stall_limit_s=self._spec.stall_limit_s, label=label):
            groups = self._engine.sample(prompts, params, n=n)
            yield from track(groups, total=len(prompts), label=label, engine=self._engine)


def _check(calibration: Calibration) -> None:
    target, max_loss = calibration.target_diversity, calibration.max_loss
    at = calibration.at
    entropy = calibration.target_entropy
    if sum(each is not None for each in (target, entropy, calibration.like)) > 1:
        raise SettingError("give one of --target-diversity, --target-entropy and --like, not two")
    if at is not None and not target is entropy is calibration.like is None:
        raise SettingError("--at searches for nothing; leave it out, or what is to be reached")
    if entropy is not None and not 0 < entropy < math.inf:
        raise SettingError(f"--target-entropy is {entropy:g}; give nats above 0, such as 0.3")
    if entropy is not None and calibration.measure != "expected":
        raise SettingError("--target-entropy is no diversity; leave --measure out")
    if at is not None and not 0 < at <= MAX_TEMPERATURE:
        raise SettingError(f"--at is {at:g}; give a temperature above 0, at most {MAX_TEMPERATURE:g}")
    if calibration.like is not None and (calibration.measure != "expected" or calibration.batch is not None):
        raise SettingError("--like takes the measure of the earlier stage; leave --measure and --batch out")
    if target is not None and not 0 < target < 1:
        raise SettingError(f"--target-diversity is {target:g}; give a share between 0 and 1")
    if not 0 < max_loss < 1:
        raise SettingError(f"--max-loss is {max_loss:g}; give a share between 0 and 1")


def _choose(
    problems: Path | Sequence[ProbeProblem], calibration: Calibration, earlier: Earlier | None
) -> tuple[list[ProbeProblem], int]:
    """Return the problems to probe with, and how many of them, the first ones, are asked at every temperature."""
    given = read_probe_problems(problems, suffix=calibration.suffix) if isinstance(problems, Path) else list(problems)
    if earlier is not None:
        found = _found_again(given, earlier, str(problems) if isinstance(problems, Path) else "what is given")
        return found, len(found)
    if _given_target(calibration) is None:
        drawn = draw_problems(given, calibration.num_problems, seed=calibration.seed)
        return drawn, len(drawn)
    num_base = min(len(given), calibration.num_problems, max(LEAST_BASE, calibration.num_problems // 2))
    shuffled = random.Random(derive_seed(calibration.seed, "probe")).sample(given, len(given))
    return shuffled[: MOST_BATCHES * num_base], num_base


def _found_again(given: Sequence[ProbeProblem], earlier: Earlier, name: str) -> list[ProbeProblem]:
    """Return the problems of an earlier stage."""
    found = [each for each in given if each.prompt.problem_id in earlier.diversity_by_problem]
    if len(found) < len(earlier.diversity_by_problem):
        raise SettingError(
            f"{name} has {len(found)} of the {len(earlier.diversity_by_problem)} problems that the earlier stage was "
            "probed with; give the same file of held-out problems"
        )
    return found


def _target(chosen: Sequence[ProbeProblem], calibration: Calibration, earlier: Earlier | None) -> float | Floats | None:
    """Return the diversity to be reached, on average or [P] of each problem."""
    if earlier is None:
        return _given_target(calibration)
    return np.array([earlier.diversity_by_problem[each.prompt.problem_id] for each in chosen])


def _given_target(calibration: Calibration) -> float | None:
    return calibration.target_diversity if calibration.target_entropy is None else calibration.target_entropy


def _describe(probe: Probe, quantity: str) -> str:
    known = probe.diversity[~np.isnan(probe.diversity)]
    diversity = f"{known.mean():.3f}" if len(known) else "-"
    return (
        f"temperature {probe.temperature:.2f}: accuracy {probe.accuracy.mean():.3f}, "
        f"{quantity} {diversity}, truncated {probe.truncated.mean():.1%}, "
        f"{probe.tokens.mean():,.0f} tokens"
    )
