"""The recipe: one TOML file that says everything a run does.

What is constant over the recipe stands at the top, what changes stands in the stages. Each value exists once;
token budgets, positions and batched tokens are derived from ``context``.
"""

import tomllib
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from polaris_data import PROMPT_SUFFIX
from polaris_rollout import MAX_TEMPERATURE, SettingError, deciding_options
from polaris_rollout.engines import check_engine_options
from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from polaris_train.errors import RecipeError
from polaris_train.recipe_curriculum import Curriculum, check_curricula
from polaris_train.recipe_objective import Objective, is_off
from polaris_train.recipe_sft import OWN_TRACES, SftStage
from polaris_train.recipe_tables import (
    Activations,
    ArmTable,
    Core,
    DataTable,
    Distillation,
    EvaluationTable,
    Lora,
    TemperatureTable,
)

Precision = Literal["bfloat16", "float16", "float32"]
Tracker = Literal["wandb", "tensorboard"]


_HELD_OUT = "held-out"
"""Name of the evaluation that may decide on training."""

_NUMBER, _AUTO, _GRPO, _SFT = "(number)", "(auto)", "(grpo)", "(sft)"
"""Kinds of a stage and of its temperature, which pydantic puts into the path of a mistake."""


FIRST_STEP_TRUNCATION = 0.3
"""Share of answers cut short with which a stage is not begun."""


def _is_usual(value: float) -> bool:
    """As `is_off`, of that share."""
    return value == FIRST_STEP_TRUNCATION


def _is_one(value: int) -> bool:
    """As `is_off`, of a number of ranks."""
    return value == 1


def _is_none(value: object) -> bool:
    """Leave a setting out where it is not given, though 0 would say something."""
    return value is None


class Constants(Objective):
    """What holds in every stage."""

    problems: str
    """Training problems: a file, a Hub data set, or ``synthetic``."""

    limit: int | None = Field(default=None, ge=1)
    """Use the first so many problems only."""

    prompt_suffix: str = PROMPT_SUFFIX
    """Appended to every question; the same in training and evaluation."""

    extend_positions: bool = False
    """Allow a context beyond the model's positions (plain extrapolation, as the published stages 2 and 3)."""

    max_prompt_tokens: int = Field(default=1024, ge=1)
    """Problems whose prompt is longer are set aside; the rest of ``context`` is for the answer."""

    prompts_per_step: int = Field(default=128, ge=1)
    """Problems of one optimizer step."""

    samples_per_prompt: int = Field(default=8, ge=2)
    """Completions of one problem; they are compared with each other."""

    rescue_max_age: int = Field(default=0, ge=0)
    """Steps for which a correct answer is kept, to replace one failure when all of a later group fail; 0: never."""

    precision: Precision | None = None
    """Of forward and backward passes, engine and exports; by default bfloat16 on GPU, float32 on CPU."""

    lora: Lora | None = None
    """Train adapters beside frozen weights; by default the weights themselves."""

    core: Core | None = Field(default=None, exclude_if=_is_none)
    """Reward wrong answers for intermediate results; by default an answer is right or it is worth nothing."""

    distillation: Distillation | None = Field(default=None, exclude_if=_is_none)
    """Learn from a teacher's log-probabilities of what is sampled; by default from rewards alone."""

    cpu_offload: bool | None = None
    """Keep parameters, gradients and optimizer state in the memory of the host; by default where a card has no room for
    them: see ``polaris-train plan``."""

    activations: Activations | None = Field(default=None, exclude_if=_is_none)
    """What layers keep for the backward pass: ``keep`` everything, only the results of matrix products and attention
    (``selective``) or of attention alone (``attention``), their inputs (``recompute``), or these in the memory of the
    host (``offload``); by default their inputs on a GPU, on the host where it has no room, and everything on a CPU."""

    compile_layers: bool = Field(default=False, exclude_if=is_off)
    """Compile each layer with ``torch.compile``, which takes a minute or two at the first step."""

    microbatch_tokens: int | None = Field(default=None, ge=1)
    """Tokens that go through the model at once on each rank; by default ``context``, or its share of it, and on a GPU a
    multiple of that which has room. Halved when memory runs out."""

    reduce_each_microbatch: bool = Field(default=False, exclude_if=is_off)
    """Share gradients out among the ranks after every micro-batch, not after the last: slower, and no rank holds them
    whole in float32 meanwhile. On by itself where a GPU has no room for these."""

    context_parallel: int = Field(default=1, ge=1, exclude_if=_is_one)
    """Neighbouring ranks that share the tokens of a micro-batch, for sequences that one GPU cannot hold; divides the
    model's attention heads."""

    max_skipped_steps: int = Field(default=3, ge=0)
    """Steps in a row whose loss or gradient is not finite, and which are skipped, before the stage gives up."""

    stall_limit_s: float = Field(default=1800.0, gt=0)
    """Longest time in which nothing moves on any rank, in seconds, before the stage ends with exit code 75."""

    max_restarts: int = Field(default=3, ge=0)
    """Times that ranks which crashed or stalled are started again, from the newest checkpoint, by one command."""

    endpoints: tuple[str, ...] = Field(default=(), exclude_if=is_off)
    """Addresses of ``vllm serve`` servers that sample for this run alone and take its weights, or files that list them,
    one a line; by default every rank has an engine of its own."""

    sampling_ahead: int = Field(default=0, ge=0, exclude_if=is_off)
    """Steps whose groups ``endpoints`` may sample while the policy is updated on those of an earlier step; 0: none,
    everything waits for everything else and a run can be repeated to the last bit."""

    canary: bool = True
    """End the stage where an engine's log-probabilities are not the policy's, even when it was given the weights twice;
    otherwise only warn."""

    trackers: tuple[Tracker, ...] = ()
    """Where metrics are sent besides ``metrics.jsonl``."""

    evaluate_every: int = Field(default=0, ge=0)
    """Steps between evaluations; there is also one before the first step and one after the last. 0: none at all."""

    evaluate_on: tuple[str, ...] = Field(default=(_HELD_OUT,), min_length=1)
    """``held-out``: training problems that are set aside, or the file of ``--held-out``; files of other problems;
    ``benchmark:NAME``. Only ``held-out`` decides when a stage ends and which checkpoint is its result."""

    held_out: int = Field(default=128, ge=1)
    """Training problems that are set aside, the same in every stage, where there are evaluations on ``held-out``."""

    evaluate_samples: int = Field(default=4, ge=1)
    """Completions of each problem in an evaluation."""

    seed: int = 0
    """Of the order of the problems and of every completion."""

    num_processes: int | None = Field(default=None, ge=1)
    """Ranks on this node; by default one for each GPU, or one."""

    tensor_parallel: int = Field(default=1, ge=1)
    """Ranks that share one engine, for models whose weights and answers need more memory than one GPU has."""

    checkpoint_every: int = Field(default=10, ge=1)
    """Steps between resumable checkpoints, besides one after each evaluation; steps in between are replayed from their
    stored rollouts."""

    record_steps: int = Field(default=0, ge=0)
    """Record the first of every so many steps for ``polaris-train replay``; 0: none, 1: all."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept, besides the one that would be the stage's result."""

    keep_rollouts: int | None = Field(default=None, ge=0, exclude_if=_is_none)
    """Newest steps whose completions stay on disk, besides those that may be needed to continue; by default all stay.
    What is removed is missing in the report's browser and to ``polaris-data profile``, nowhere else."""


class Changing(Curriculum):
    """What may change from stage to stage."""

    context: int = Field(ge=2)
    """Longest prompt and answer together, in tokens."""

    steps: int = Field(ge=1)
    """Optimizer steps, at most."""

    plateau_window: int | None = Field(default=None, ge=4)
    """End the stage when so many more steps bring less than 2 points of training reward and of held-out accuracy, both
    known by their intervals (see `polaris_train.stage.stopping`). With few prompts a step or few held-out problems
    that takes several windows to know. ``None``: never. Published: ended by hand, on curves."""

    first_step_truncation: float = Field(default=FIRST_STEP_TRUNCATION, ge=0, le=1, exclude_if=_is_usual)
    """Refuse to go on after the first step has been sampled when a larger share of its answers was cut short: what a
    stage would learn from these is to be short. 1: never."""

    truncation_limit: float | None = Field(default=None, gt=0, lt=1)
    """End the stage when a larger share of the answers of 10 steps is cut short, by the lower end of its 95% interval;
    the next stage is longer. DeepScaleR's reason to lengthen; ``None``: never."""

    max_sampled_tokens: int | None = Field(default=None, ge=1)
    """End the stage when its steps have sampled so many tokens, evaluations not counted; ``None``: never. For
    comparisons at equal cost (``polaris ablate``)."""


class Stage(Changing):
    """One stage of a recipe that learns from its own graded answers."""

    kind: Literal["grpo"] = Field(default="grpo", exclude_if=lambda kind: kind == "grpo")
    """Tells it from a stage of supervised fine-tuning."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the stage's folder."""

    temperature: Annotated[
        Annotated[float, Field(gt=0, le=MAX_TEMPERATURE), Tag(_NUMBER)] | Annotated[Literal["auto"], Tag(_AUTO)],
        Discriminator(lambda value: _AUTO if isinstance(value, str) else _NUMBER),
    ]
    """Of sampling, and of the log-probabilities in the loss; ``auto``: what ``polaris-rollout temperature`` wrote to
    the stage's folder."""


def _kind(stage: Any) -> str:
    kind = stage.get("kind", "grpo") if isinstance(stage, dict) else getattr(stage, "kind", "grpo")
    return f"({kind})"


AnyStage = Annotated[
    Annotated[Stage, Tag(_GRPO)] | Annotated[SftStage, Tag(_SFT)],
    Discriminator(
        _kind,
        custom_error_type="stage_kind",
        custom_error_message='kind is "grpo" (by default) or "sft"',
    ),
]
"""A stage of reinforcement learning or of supervised fine-tuning."""


class Recipe(Constants):
    """A whole recipe, as its TOML file says it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run folder."""

    model: str
    """The model that stage 1 starts from: a folder, a Hub id, or ``tiny``."""

    stages: tuple[AnyStage, ...] = Field(min_length=1)
    """In the order in which they run; each starts from the model of the one before."""

    data: DataTable = DataTable()
    """Before the stages and between them: what is trained on."""

    engine: dict[str, Any] = Field(default={}, exclude_if=is_off)
    """Options of vLLM, by the names of its ``EngineArgs``, for every engine that the run starts."""

    temperature: TemperatureTable = TemperatureTable()
    """Before a stage: how its temperature is found."""

    evaluation: EvaluationTable = EvaluationTable()
    """After the stages: what came of it."""

    arms: tuple[ArmTable, ...] = Field(default=(), exclude_if=is_off)
    """What ``polaris ablate`` compares; by default plain GRPO and the recipe's parts, one by one."""

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stage names must differ, got {names}")
        for index, stage in enumerate(self.stages):
            if stage.context <= self.max_prompt_tokens:
                raise ValueError(
                    f"stages.{index}.context is {stage.context}, which leaves no answer tokens after "
                    f"max_prompt_tokens = {self.max_prompt_tokens}"
                )
            if (self.overlong_cache or 0) >= stage.context - self.max_prompt_tokens:
                raise ValueError(
                    f"overlong_cache is {self.overlong_cache}, but stages.{index} has answers of at most "
                    f"{stage.context - self.max_prompt_tokens} tokens; give fewer"
                )
            if isinstance(stage, SftStage):
                if stage.traces == OWN_TRACES and not self.data.select:
                    raise ValueError(
                        f'stages.{index}.traces is "{OWN_TRACES}", but with data.select = [] nothing is profiled; give '
                        "a rule of selection, or a file of traces"
                    )
                continue
            if stage.plateau_window is not None and not self.evaluate_every:
                raise ValueError(
                    f"stages.{index}.plateau_window is {stage.plateau_window}, which asks for held-out accuracy; "
                    "set evaluate_every, e.g. to 10"
                )
            if stage.plateau_window is not None and _HELD_OUT not in [Path(entry).stem for entry in self.evaluate_on]:
                raise ValueError(
                    f"stages.{index}.plateau_window is {stage.plateau_window}, which asks for held-out accuracy, but "
                    f"evaluate_on is {list(self.evaluate_on)}; add {_HELD_OUT!r}"
                )
        self._check_arms()
        check_curricula(
            ((index, stage) for index, stage in enumerate(self.stages) if isinstance(stage, Stage)),
            sampling_ahead=self.sampling_ahead,
        )
        self._check_core()
        self._check_distillation()
        self.check_objective([stage.steps for stage in self.stages if isinstance(stage, Stage)])
        if self.prompts_per_step % self.optimizer_steps_per_batch:
            raise ValueError(
                f"prompts_per_step is {self.prompts_per_step}, which does not divide into optimizer_steps_per_batch "
                f"= {self.optimizer_steps_per_batch} equal parts"
            )
        if self.sampling_ahead and not self.endpoints:
            raise ValueError(
                f"sampling_ahead is {self.sampling_ahead}, but engines in the ranks cannot sample while these train; "
                "start servers with 'vllm serve' and give their addresses as endpoints, or set sampling_ahead to 0"
            )
        if self.num_processes is not None:
            check_ranks(self.num_processes, self.tensor_parallel, self.context_parallel)
        if self.engine and self.endpoints:
            raise ValueError("[engine] is for engines that the run starts; start the endpoints with these options")
        try:
            check_engine_options(self.engine)
        except SettingError as error:
            raise ValueError(f"engine: {error}") from error
        return self

    def _check_arms(self) -> None:
        above = ["full", "baseline"]
        for index, arm in enumerate(self.arms):
            if arm.name in above:
                raise ValueError(f"arms.{index}.name is {arm.name!r}, which is taken; the names are {above}")
            if unknown := set(arm.stages or ()) - {stage.name for stage in self.stages}:
                raise ValueError(f"arms.{index}.stages has {min(unknown)!r}, which is no stage of the recipe")
            if arm.before is not None and arm.before not in above[2:]:
                raise ValueError(f"arms.{index}.before is {arm.before!r}; give an arm above it, of {above[2:]}")
            above.append(arm.name)

    def _check_core(self) -> None:
        for name in ("long2short", "mgpo_lambda"):
            if self.core is not None and getattr(self, name):
                raise ValueError(
                    f"{name} is {getattr(self, name):g}, which asks whether each answer is right, and with [core] "
                    f"wrong ones earn rewards too; leave out {name}, or [core]"
                )

    def _check_distillation(self) -> None:
        if self.distillation is None:
            return
        if self.substitution == "copy":
            raise ValueError(
                'substitution = "copy" fills the place of groups without a signal, and with [distillation] every group '
                "has one; leave it out"
            )
        hot = [stage.name for stage in self.stages if isinstance(stage, Stage) and stage.temperature != 1]
        if self.distillation.is_served and hot:
            raise ValueError(
                "distillation.teacher is a server, which gives log-probabilities at temperature 1, but stage "
                f"{hot[0]!r} samples at another; set its temperature to 1, or give the teacher as a folder or Hub id"
            )

    @property
    def evaluation_context(self) -> int:
        """Tokens of prompt and answer in the evaluations."""
        return self.evaluation.context or self.stages[-1].context

    @property
    def uses_yarn(self) -> bool:
        """Whether the last model is also read out beyond the context of the other evaluations."""
        return self.evaluation.yarn_context > self.evaluation_context

    def engine_tables(self) -> dict[str, dict[str, Any]]:
        """Return the options of vLLM as a stage has them: ``engine``, which decides, and ``engine_room``."""
        deciding = deciding_options(self.engine)
        return {
            "engine": deciding,
            "engine_room": {name: value for name, value in self.engine.items() if name not in deciding},
        }

    def constants(self) -> dict[str, Any]:
        """Return what holds in every stage."""
        return self.model_dump(include=set(Constants.model_fields))

    def stage(self, name: str) -> Stage | SftStage:
        """Return the stage of that name.

        Raises:
            RecipeError: If there is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise RecipeError(
            f"recipe {self.name!r} has no stage {name!r}; its stages are {[stage.name for stage in self.stages]}"
        )


def check_ranks(num_ranks: int, tensor_parallel: int, context_parallel: int = 1) -> None:
    """Refuse ranks that do not divide into engines, or into groups that share the tokens of a micro-batch.

    Raises:
        RecipeError: If some ranks would be left over.
    """
    if num_ranks % context_parallel:
        raise RecipeError(
            f"context_parallel is {context_parallel}, which does not divide the {num_ranks} ranks of this node; set "
            "num_processes to a multiple of it, or lower context_parallel"
        )
    if num_ranks % tensor_parallel:
        raise RecipeError(
            f"tensor_parallel is {tensor_parallel}, which does not divide the {num_ranks} ranks of this node; set "
            "num_processes to a multiple of it, or lower tensor_parallel"
        )


def packaged_recipes() -> dict[str, Path]:
    """Return the recipes that this package carries, by name."""
    folder = Path(str(files("polaris_train") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(recipe: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply ``--set`` overrides such as ``stages.0.temperature=1.2``.

    Args:
        recipe: A TOML file, or the name of a packaged recipe.
        overrides: Dotted path, ``=``, and a TOML value; text needs no quotes.

    Raises:
        RecipeError: With every mistake and its dotted path.
    """
    packaged = packaged_recipes()
    path = packaged.get(recipe, Path(recipe))
    if not path.is_file():
        raise RecipeError(f"no recipe {recipe!r}: give a TOML file or one of {sorted(packaged)}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a TOML file: {error}") from error
    values.setdefault("name", path.stem)
    return _checked(values, overrides or (), where=str(path))


def change_recipe(recipe: Recipe, overrides: Sequence[str], *, stages: Collection[str] | None = None) -> Recipe:
    """Return a recipe with some of its stages alone, without arms, and with overrides as ``--set`` takes them.

    Args:
        recipe: Stays as it is.
        overrides: As of `load_recipe`.
        stages: Names of those that stay; ``None``: all.

    Raises:
        RecipeError: As `load_recipe` does.
    """
    values = recipe.model_dump(mode="json", exclude={"arms"}, exclude_defaults=True, exclude_none=True)
    values["stages"] = [each for each in values["stages"] if stages is None or each["name"] in stages]
    return _checked(values, overrides, where=recipe.name)


def _checked(values: dict[str, Any], overrides: Sequence[str], *, where: str) -> Recipe:
    for override in overrides:
        _apply(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{where}: " + "; ".join(_explain(each) for each in error.errors())) from error


_TABLES = ("data", "temperature", "evaluation", "lora", "engine", "core", "distillation")
"""What a file may leave out and an override still set a part of."""


def _apply(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"--set {override!r}: write it as dotted.path=value")
    *parents, last = path.split(".")
    target: Any = values
    try:
        for key in parents:
            if target is values and key in _TABLES:
                target.setdefault(key, {})
            target = target[_place(target, key)]
        target[_place(target, last)] = _toml_value(text)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise RecipeError(f"--set {override!r}: the recipe has no {path!r}") from error


def _place(target: Any, key: str) -> int | str:
    """Return where a part of an override's path is: in a list by its number or, of a stage, by its name."""
    if not isinstance(target, list):
        return key
    named = [index for index, each in enumerate(target) if isinstance(each, dict) and each.get("name") == key]
    return named[0] if named else int(key)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


_WHOLE_DISTRIBUTION = (
    "; training samples from the whole distribution, because the loss needs the probability that each token was drawn "
    "with; it is an option of evaluation"
)
_HINTS: dict[str, str] = {"top_p": _WHOLE_DISTRIBUTION, "top_k": _WHOLE_DISTRIBUTION, "min_p": _WHOLE_DISTRIBUTION}
"""What to say about keys that people bring from elsewhere."""


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"] if part not in (_NUMBER, _AUTO, _GRPO, _SFT))
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_HINTS.get(str(error['loc'][-1]), '')}"
    if error["type"] == "missing":
        return f"{path}: missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{path}: {error['msg']}, got {error['input']!r}"
