"""Memory of the engine that samples beside a trainer, in bytes, by formula."""

from dataclasses import dataclass
from math import ceil

from polaris_train.planning.cards import GIB
from polaris_train.planning.memory import DEVICE_RESERVE, WIDE
from polaris_train.planning.shapes import ModelShape

ENGINE_WORK = 3 * GIB
"""What an engine that is awake needs besides weights and cache: activations of a prefill, logits, graphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """What an engine that is awake has of one card."""

    share: float
    """Of the card's memory, weights and work space included."""
    weights: float
    """Bytes."""
    work: float
    """Bytes."""
    cache: float
    """Bytes of keys and values."""
    cache_tokens: int
    """Tokens of all answers together that these hold, on all cards that share an engine."""
    state_tokens: int = 0
    """Of these, what the state of one answer takes the place of: linear attention has one, however short it is."""


def engine_share(*, memory: float, resident: float, reserve: float) -> float:
    """Return the share of a card that is left for an engine beside what a trainer keeps there.

    Args:
        memory: Of the card, in bytes.
        resident: What stays while the engine is awake.
        reserve: What must be free besides.
    """
    return max(0.0, min(0.9, (memory - resident - reserve) / memory))


def transfer_bytes(largest: int) -> float:
    """Return what passing weights on needs: the largest tensor whole in float32, and once more as the engine's.

    Args:
        largest: Its number of parameters.
    """
    return 1.5 * WIDE * largest


def engine_memory(
    shape: ModelShape, *, memory: float, resident: float, tensor_parallel: int, share: float | None, value_bytes: float
) -> EngineMemory:
    """Return what an engine has beside a trainer; a cache below 0 says how much is missing.

    Args:
        shape: Of the model.
        memory: Of a card.
        resident: What the trainer keeps there.
        tensor_parallel: Cards that share an engine.
        share: Of a card, where it is given.
        value_bytes: Of a number in the cache.
    """
    if share is None:
        share = engine_share(
            memory=memory, resident=resident, reserve=DEVICE_RESERVE + transfer_bytes(shape.embedding_parameters)
        )
    weights = 2 * shape.parameters / tensor_parallel
    cache = share * memory - weights - ENGINE_WORK
    per_token = shape.cache_bytes(bytes_per_value=value_bytes) / min(tensor_parallel, shape.key_heads)
    return EngineMemory(
        share=share,
        weights=weights,
        work=ENGINE_WORK,
        cache=cache,
        cache_tokens=max(0, int(cache / per_token)),
        state_tokens=ceil(shape.state_bytes / tensor_parallel / per_token),
    )
