"""One stage of a recipe with nothing left to derive: what its worker reads and its folder keeps."""

from typing import Any

from polaris_rollout import MAX_TEMPERATURE, SamplingParams
from pydantic import Field

from polaris_train.recipe import Changing, Constants
from polaris_train.recipe.objective import is_off
from polaris_train.recipe.sft import Supervised

_SLOWEST_TOKENS_PER_S = 5.0
"""Of one answer: no engine that is worth training with samples it more slowly."""


class ResolvedStage(Constants, Changing):
    """Everything that one stage's worker needs, with nothing left to derive from elsewhere."""

    run: str
    """Name of the run folder."""

    stage: str
    """Name of the stage."""

    model: str
    """The folder or Hub id that the stage starts from."""

    temperature: float = Field(gt=0, le=MAX_TEMPERATURE)
    """Of sampling, and of the log-probabilities in the loss."""

    problems_sha256: str
    """Content hash of the stage's ``problems.jsonl``, or of what it learns from instead, its ``sequences.arrow``."""

    sft: Supervised | None = Field(default=None, exclude_if=lambda sft: sft is None)
    """What a stage of supervised fine-tuning learns from; ``None``: it learns by reinforcement."""

    teacher: str | None = Field(default=None, exclude_if=lambda teacher: teacher is None)
    """Fingerprint of the teacher's files, where there is a teacher and it is loaded here."""

    consensus: str | None = Field(default=None, exclude_if=lambda consensus: consensus is None)
    """Content hash of the consensus that the stage begins with, where it knows something before its first step."""

    engine: dict[str, Any] = Field(default={}, exclude_if=is_off)
    """Options of vLLM that can change what is drawn: a stage is not continued with others."""

    engine_room: dict[str, Any] = Field(default={}, exclude_if=is_off)
    """Options of vLLM that say how much room it has and how work is cut up."""

    evaluation_hashes: dict[str, str] = Field(default_factory=dict)
    """Content hash of each set of problems that the stage is evaluated on, by name."""

    @property
    def max_answer_tokens(self) -> int:
        """Room for an answer after the longest prompt."""
        return self.context - self.max_prompt_tokens

    @property
    def collective_timeout_s(self) -> float:
        """Longest time that a rank waits for the others in one collective, in seconds.

        As long as an engine needs for its longest answer, which the others wait for, and then as long as the watchdog,
        which says more, needs to notice that nothing moves.
        """
        return self.max_answer_tokens / _SLOWEST_TOKENS_PER_S + 2 * self.stall_limit_s

    @property
    def max_microbatch_tokens(self) -> int:
        """Tokens that go through the model at once on each rank, unless one sequence is longer."""
        return self.microbatch_tokens or self.longest_share

    @property
    def longest_share(self) -> int:
        """Tokens that each rank holds of the longest sequence."""
        return -(-self.context // (self.context_parallel or 1))

    def sampling_params(self, *, seed: int) -> SamplingParams:
        """Return how the stage draws completions."""
        return SamplingParams(temperature=self.temperature, max_tokens=self.max_answer_tokens, seed=seed)

    def decisive(self) -> dict[str, Any]:
        """Return what decides which completions a stage of given problems samples from a given model, fit for JSON."""
        return self.model_dump(mode="json", exclude={*FREE_FIELDS, *_INDECISIVE_FIELDS})

    def weights_version(self, step: int) -> str:
        """Return the name of the weights after a step; 0 is before the first."""
        return f"{self.run}/{self.stage}+{step}"


FREE_FIELDS = (
    "steps",
    "plateau_window",
    "first_step_truncation",
    "truncation_limit",
    "max_sampled_tokens",
    "num_processes",
    "tensor_parallel",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_rollouts",
    "record_steps",
    "cpu_offload",
    "activations",
    "compile_layers",
    "microbatch_tokens",
    "reduce_each_microbatch",
    "context_parallel",
    "max_skipped_steps",
    "stall_limit_s",
    "endpoints",
    "engine_room",
    "canary",
    "max_restarts",
    "trackers",
)
"""Fields of a resolved stage that may change when it is continued: none alters what a step computes, but for the
rounding of sums that are taken in another order."""

_INDECISIVE_FIELDS = (
    "run",
    "model",
    "problems",
    "limit",
    "problems_sha256",
    "held_out",
    "evaluate_every",
    "evaluate_on",
    "evaluate_samples",
    "evaluation_hashes",
)
"""Fields that name what is given, or say only what is measured."""
