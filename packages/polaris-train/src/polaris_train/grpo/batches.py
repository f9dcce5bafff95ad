"""From graded groups to the batches of optimizer steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from polaris_rollout import derive_seed

from polaris_train.grpo.advantage import Substitution, completion_advantages, group_multiplicities
from polaris_train.grpo.lag import token_lags
from polaris_train.grpo.weights import Aggregation, token_weights
from polaris_train.model.packing import TrainingSequence
from polaris_train.records import GradedGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How graded groups become batches; the defaults are GRPO's advantages with DAPO's token mean."""

    max_answer_tokens: int
    """Longest possible answer."""

    normalize_std: bool = True
    """Divide advantages by the group's standard deviation; without it, Dr. GRPO."""

    normalize_mean: bool = False
    """Divide them by the group's mean reward instead: MaxRL; see `polaris_train.grpo.max_likelihood_advantages`."""

    mgpo_lambda: float = 0.0
    """Sharpness of `polaris_train.grpo.max_entropy_weight`; 0: every group counts the same."""

    long2short: float = 0.0
    """Weight of `polaris_train.grpo.shorter_is_better`; 0: length does not matter."""

    aggregation: Aggregation = "token-mean"
    """How much each token counts; see `polaris_train.grpo.token_weights`."""

    substitution: Substitution = "reweight"
    """What becomes of groups that teach nothing; see `polaris_train.grpo.group_multiplicities`."""

    reward_weight: float | None = None
    """Of the advantages, beside those of a teacher, from which every group learns; ``None`` without a teacher."""

    mask_truncated: bool = False
    """Leave answers that the token budget ended out of the loss (overlong filtering)."""

    overlong_cache: int | None = None
    """Tokens before the end of the budget at which `soft_overlong_penalty` begins; ``None`` for no penalty."""

    num_optimizer_steps: int = 1
    """Equal parts of the groups that are trained on one after the other."""

    max_lag: int = 0
    """Largest lag that a token may have; at 0 all were drawn with the weights that the step begins with."""

    seed: int = 0
    """Of the draw of substitutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """What one optimizer step trains on."""

    sequences: list[TrainingSequence]
    """Completions that can teach something, with their advantages and weights."""

    members: tuple[tuple[int, int], ...] = ()
    """Which group of the rollout, and which of its completions, each sequence is."""

    copied_groups: int = 0
    """Groups that count more than once, by how often more."""

    rescue_ages: tuple[int, ...] = ()
    """How many steps ago the rescued completions were sampled."""

    @property
    def rescued_groups(self) -> int:
        """Groups with a completion from an earlier step."""
        return len(self.rescue_ages)


def training_batches(rollout: Sequence[GradedGroup], settings: BatchSettings, *, step: int) -> list[TrainingBatch]:
    """Return what each of the step's optimizer steps trains on.

    Groups that are all right or all wrong have no advantage: they are left out of the update and of its
    denominator, unless a teacher has something to say of each token. Every token's weight has the denominator of its
    optimizer step, over all ranks.
    """
    counts = group_multiplicities(
        [each.informative or settings.reward_weight is not None for each in rollout],
        substitution=settings.substitution,
        seed=derive_seed(settings.seed, "substitution", step),
    )
    every, parts = list(zip(range(len(rollout)), rollout, counts, strict=True)), settings.num_optimizer_steps
    bounds = [part * len(every) // parts for part in range(parts + 1)]  # A step that was refilled may not divide.
    return [_batch(every[start:end], settings, step) for start, end in pairwise(bounds)]


def _batch(part: Sequence[tuple[int, GradedGroup, int]], settings: BatchSettings, step: int) -> TrainingBatch:
    chosen = [(place, each, count) for place, each, count in part if count]
    members = [
        ((place, index), sequence, count)
        for place, each, count in chosen
        for index, sequence in _sequences(each, settings, step)
    ]
    sequences = [(sequence, count) for _, sequence, count in members]
    weights = token_weights(
        [len(sequence.token_ids) for sequence, _ in sequences],
        [count for _, count in sequences],
        aggregation=settings.aggregation,
        max_tokens=settings.max_answer_tokens,
    )
    return TrainingBatch(
        sequences=[replace(sequence, weight=weight) for (sequence, _), weight in zip(sequences, weights, strict=True)],
        members=tuple(member for member, _, _ in members),
        copied_groups=sum(count - 1 for _, _, count in chosen),
        rescue_ages=tuple(each.rescue_age for _, each, _ in chosen if each.rescued is not None),
    )


def _sequences(each: GradedGroup, settings: BatchSettings, step: int) -> list[tuple[int, TrainingSequence]]:
    """Return the group's completions by number, with their advantages, but for those that are masked."""
    completions = each.group.completions
    advantages = completion_advantages(
        each.scores,
        [len(completion.token_ids) for completion in completions],
        normalize_std=settings.normalize_std,
        max_tokens=settings.max_answer_tokens,
        overlong_cache=settings.overlong_cache,
        normalize_mean=settings.normalize_mean,
        mgpo_lambda=settings.mgpo_lambda,
        long2short=settings.long2short,
    )
    if settings.reward_weight is not None:
        weight = settings.reward_weight if each.informative else 0.0
        advantages = [weight * advantage for advantage in advantages]
    return [
        (
            index,
            TrainingSequence(
                prompt_token_ids=each.group.prompt_token_ids,
                token_ids=completion.token_ids,
                engine_logprobs=completion.logprobs,
                advantages=advantage,
                old_logprobs=completion.logprobs if index == each.rescued else None,
                off_policy=index == each.rescued,
                lags=token_lags(each.group, completion, step=step) if settings.max_lag and index != each.rescued else 0,
            ),
        )
        for index, (completion, advantage) in enumerate(zip(completions, advantages, strict=True))
        if not (settings.mask_truncated and completion.finish_reason == "length")
    ]
