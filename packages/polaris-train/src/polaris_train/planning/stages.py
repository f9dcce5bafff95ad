"""The plan of one stage: what is derived for it, what it needs, and how long it takes."""

from dataclasses import dataclass
from pathlib import Path

from polaris_data.problems import count_rows

from polaris_train.planning.cards import Machine
from polaris_train.planning.derivation import Derived, cache_value_bytes, derive
from polaris_train.planning.shapes import ModelShape
from polaris_train.planning.timing import StepTime, decoding_s, offloading_s, training_s
from polaris_train.recipe import Recipe, Stage
from polaris_train.recipe.sft import SftStage

TYPICAL_ANSWER = 0.375
"""Of the longest answer: the mean that is assumed where none is given, as of reasoning models at full context. Of the
longest trace as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What one stage needs of a machine."""

    stage: str
    context: int
    steps: int | None
    """``None`` where they are as many as traces that are not there yet make them."""
    derived: Derived
    answer_tokens: float
    """Mean of an answer; of a whole trace where ``traces_per_step`` is given."""
    time: StepTime | None
    """``None`` for a CPU, whose speed nobody can tell."""
    hours: float
    """Of all steps and evaluations; 0 without a time."""
    floor_hours: float
    """Of these, what the longest answers take when each is alone."""
    traces_per_step: int | None = None
    """Of a stage that learns from traces."""

    @property
    def fits(self) -> bool:
        """Whether nothing is missing."""
        return not self.derived.problems


def plan_stage(
    recipe: Recipe, stage: Stage | SftStage, shape: ModelShape, machine: Machine, *, answer_tokens: int | None = None
) -> StagePlan:
    """Return what a stage needs, whether or not it fits.

    Args:
        recipe: The whole recipe.
        stage: One of its stages.
        shape: Of its model.
        machine: Where it is to run.
        answer_tokens: Mean length of an answer, and of a trace; by default `TYPICAL_ANSWER` of the longest.
    """
    if isinstance(stage, SftStage):
        return _plan_sft(recipe, stage, shape, machine, trace_tokens=answer_tokens)
    longest = stage.context - recipe.max_prompt_tokens
    mean = min(float(answer_tokens or TYPICAL_ANSWER * longest), longest)
    derived = derive(recipe, stage.context, recipe.engine, shape, machine)
    time = None if machine.on_cpu else _step_time(recipe, machine, derived, mean=mean, longest=longest)
    hours = floor_hours = 0.0
    if time:
        evaluations = 2 + (stage.steps - 1) // recipe.evaluate_every if recipe.evaluate_every else 0
        one = max(time.floor, recipe.held_out * recipe.evaluate_samples * mean / time.sampled_per_s)
        hours = (stage.steps * time.total + evaluations * one) / 3600
        floor_hours = (stage.steps + evaluations) * time.floor / 3600
    return StagePlan(
        stage=stage.name,
        context=stage.context,
        steps=stage.steps,
        derived=derived,
        answer_tokens=mean,
        time=time,
        hours=hours,
        floor_hours=floor_hours,
    )


def _plan_sft(
    recipe: Recipe, stage: SftStage, shape: ModelShape, machine: Machine, *, trace_tokens: int | None
) -> StagePlan:
    """Return what a stage that learns from traces needs; the time of its evaluations is not counted."""
    mean = min(float(trace_tokens or TYPICAL_ANSWER * stage.context), stage.context)
    derived = derive(recipe, stage.context, recipe.engine, shape, machine, supervised=True)
    num_tokens = stage.traces_per_step * mean
    time = None
    if not machine.on_cpu:
        seconds = _training_s(derived, machine, num_tokens=num_tokens, length=mean, passes=1)
        time = StepTime(
            sampling=0.0, floor=0.0, training=seconds, sampled_per_s=0.0, trained_per_s=num_tokens / seconds
        )
    steps = _num_sft_steps(stage)
    return StagePlan(
        stage=stage.name,
        context=stage.context,
        steps=steps,
        derived=derived,
        answer_tokens=mean,
        time=time,
        hours=steps * time.total / 3600 if steps and time else 0.0,
        floor_hours=0.0,
        traces_per_step=stage.traces_per_step,
    )


def _num_sft_steps(stage: SftStage) -> int | None:
    """Return the steps that the traces of a file give, none of them set aside; ``None`` where there is no file."""
    if not Path(stage.traces).is_file():
        return None
    num_traces = count_rows(stage.traces)
    return None if num_traces is None else -(-stage.epochs * num_traces // stage.traces_per_step)


def _step_time(recipe: Recipe, machine: Machine, derived: Derived, *, mean: float, longest: int) -> StepTime:
    training, in_flight = derived.training, derived.in_flight
    sampled = recipe.prompts_per_step * recipe.samples_per_prompt * mean

    def token_s(in_flight: float, held: float) -> float:
        return decoding_s(
            training.shape,
            machine,
            in_flight=in_flight,
            held_tokens=held,
            tensor_parallel=recipe.tensor_parallel,
            cache_bytes=training.shape.cache_bytes(bytes_per_value=cache_value_bytes(recipe.engine)),
        )

    engines = max(1, machine.num_ranks // recipe.tensor_parallel)
    sampled_per_s = engines * in_flight / token_s(in_flight, mean / 2)
    floor = longest * token_s(1, longest / 2)
    # Log-probabilities, old ones and those of a reference or a teacher, take a forward pass: a third of training.
    passes = 1 + (recipe.optimizer_steps_per_batch > 1) / 3 + bool(recipe.kl_coef) / 3
    if training.teacher is not None:
        passes += training.teacher.parameters / training.shape.parameters / 3
    seconds = _training_s(derived, machine, num_tokens=sampled, length=mean, passes=passes)
    return StepTime(
        sampling=max(floor, sampled / sampled_per_s),
        floor=floor,
        training=seconds,
        sampled_per_s=sampled_per_s,
        trained_per_s=sampled / seconds,
    )


def _training_s(derived: Derived, machine: Machine, *, num_tokens: float, length: float, passes: float) -> float:
    seconds = passes * training_s(derived.training, machine, num_tokens=num_tokens, length=length)
    return seconds + offloading_s(derived.training, num_tokens=num_tokens, length=length)
