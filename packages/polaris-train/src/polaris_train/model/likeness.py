"""Does the policy say what the model itself says? Asked of a model of a type that this package is not tested with.

The policy reads packed sequences and applies the output head itself. A model with a head of another kind, or with
layers that do not keep packed sequences apart, would be trained on other log-probabilities than it has.
"""

import logging

import torch
from polaris_rollout import ModelError

from polaris_train.model.architecture import TESTED
from polaris_train.model.packing import MicroBatch, TrainingSequence, pack
from polaris_train.model.policy import Policy

logger = logging.getLogger(__name__)

LARGEST_GAP = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Mean difference of a log-probability, in nats, that rounding explains."""

HALF_GAP = 0.1
"""The same in a half precision."""

_LENGTHS = (9, 24), (1, 3), (5, 16)
_TEMPERATURE = 1.3


def check_likeness(policy: Policy, *, model: str) -> None:
    """Compare the policy's log-probabilities with those that the model's own logits give; collective.

    Raises:
        ModelError: If they differ, or the attention that keeps packed sequences apart cannot do what the model's does.
    """
    kind = policy.model.config.model_type
    sequences = _sequences(policy.model.config.vocab_size)
    batches = [sequences] if policy.packs else [[each] for each in sequences]
    try:
        found = [policy.frozen_logprobs(_packed(policy, each), temperature=_TEMPERATURE) for each in batches]
        expected = [
            policy.frozen_logprobs(_packed(policy, [each]), temperature=_TEMPERATURE, from_logits=True)
            for each in sequences
        ]
    except NotImplementedError as error:
        raise ModelError(f"{model}, of type {kind!r}, cannot be trained: {error}") from error
    gap = float((torch.cat(found) - torch.cat(expected)).abs().mean())
    if not gap <= LARGEST_GAP.get(policy.dtype, HALF_GAP):
        raise ModelError(
            f"{model}, of type {kind!r}, gives tokens other log-probabilities than its trainer would (by {gap:.3g} "
            f"nats on average), so it is not trained; choose a model of type {', '.join(TESTED)}"
        )
    logger.info("%s is of type %r: its log-probabilities are those of transformers (%.2g nats)", model, kind, gap)


def _sequences(vocab_size: int) -> list[TrainingSequence]:
    """Return sequences of tokens from all over the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(vocab_size, (prompt + answer,), generator=generator).tolist() for prompt, answer in _LENGTHS]
    return [
        TrainingSequence(prompt_token_ids=tuple(row[:prompt]), token_ids=tuple(row[prompt:]))
        for row, (prompt, _) in zip(rows, _LENGTHS, strict=True)
    ]


def _packed(policy: Policy, sequences: list[TrainingSequence]) -> MicroBatch:
    return pack(sequences).to(policy.device)
