"""The recipe: one TOML file that says everything a run does.

What is constant over the recipe stands at the top, what changes stands in the stages. Each value exists once;
token budgets, positions and batched tokens are derived from ``context``.
"""

from pathlib import Path
from typing import Any

from polaris_rollout import SettingError, deciding_options
from polaris_rollout.engines import check_engine_options
from pydantic import Field, model_validator

from polaris_train.errors import RecipeError
from polaris_train.recipe.constants import HELD_OUT, Constants, check_ranks
from polaris_train.recipe.curriculum import check_curricula
from polaris_train.recipe.objective import is_off
from polaris_train.recipe.sft import OWN_TRACES, SftStage
from polaris_train.recipe.stages import AnyStage, Stage
from polaris_train.recipe.tables import ArmTable, DataTable, EvaluationTable, TemperatureTable


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
            self._check_stage(index, stage)
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

    def _check_stage(self, index: int, stage: Stage | SftStage) -> None:
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
            return
        if stage.plateau_window is not None and not self.evaluate_every:
            raise ValueError(
                f"stages.{index}.plateau_window is {stage.plateau_window}, which asks for held-out accuracy; "
                "set evaluate_every, e.g. to 10"
            )
        if stage.plateau_window is not None and HELD_OUT not in [Path(entry).stem for entry in self.evaluate_on]:
            raise ValueError(
                f"stages.{index}.plateau_window is {stage.plateau_window}, which asks for held-out accuracy, but "
                f"evaluate_on is {list(self.evaluate_on)}; add {HELD_OUT!r}"
            )

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
                "distillation.teacher is a server, which gives log-probabilities at temperature 1, but the stages "
                f"{hot} sample at another; set their temperature to 1, or give the teacher as a folder or Hub id"
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
