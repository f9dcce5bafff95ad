"""What holds in every stage of a recipe."""

from typing import Literal

from polaris_data import PROMPT_SUFFIX
from pydantic import Field

from polaris_train.errors import RecipeError
from polaris_train.recipe.objective import Objective, is_off
from polaris_train.recipe.tables import Activations, Core, Distillation, Lora

Precision = Literal["bfloat16", "float16", "float32"]
Tracker = Literal["wandb", "tensorboard"]

HELD_OUT = "held-out"
"""Name of the evaluation that may decide on training."""


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

    context_parallel: int | None = Field(default=None, ge=1, exclude_if=_is_none)
    """Neighbouring ranks that share the tokens of a micro-batch, for sequences that one GPU cannot hold; divides the
    model's attention heads. By default 1, and more on GPUs where nothing else makes a stage fit."""

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

    evaluate_on: tuple[str, ...] = Field(default=(HELD_OUT,), min_length=1)
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


def check_ranks(num_ranks: int, tensor_parallel: int, context_parallel: int | None) -> None:
    """Refuse ranks that do not divide into engines, or into groups that share the tokens of a micro-batch.

    Raises:
        RecipeError: If some ranks would be left over.
    """
    if context_parallel is not None and num_ranks % context_parallel:
        raise RecipeError(
            f"context_parallel is {context_parallel}, which does not divide the {num_ranks} ranks of this node; set "
            "num_processes to a multiple of it, or lower context_parallel"
        )
    if num_ranks % tensor_parallel:
        raise RecipeError(
            f"tensor_parallel is {tensor_parallel}, which does not divide the {num_ranks} ranks of this node; set "
            "num_processes to a multiple of it, or lower tensor_parallel"
        )
