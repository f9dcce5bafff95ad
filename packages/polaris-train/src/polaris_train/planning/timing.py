"""Seconds of a step, from what a card can do: reading weights and caches when it samples, arithmetic when it trains.

Four figures are fitted to the speeds that prime-rl publishes for training on one and eight H100 (0.6B and 4B, full and
LoRA, 16K and 64K tokens), which they repeat within 12%: `_LINEAR`, `_ATTENTION`, `_PASS_S` and `_SHARING_S`. Products
of small matrices wait for memory, so their share of the peak grows with the width of the model, and LoRA saves no time.
`_READING` is the share of its bandwidth that decoding reaches, by rule of thumb. None was measured with this package.
"""

from dataclasses import dataclass
from math import ceil

from polaris_train.planning.cards import Machine
from polaris_train.planning.memory import WIDE, Training
from polaris_train.planning.shapes import ModelShape
from polaris_train.recipe.tables import Activations

_LINEAR = 0.175
"""Of a card's peak that training's linear layers reach at `_LINEAR_WIDTH`, and in proportion at other widths."""

_LINEAR_WIDTH = 2560

_MOST = 0.4
"""Of the peak, for the widest models."""

_ATTENTION = 0.55
"""Of a card's peak that attention reaches."""

_PASS_S = 0.25
"""Of each micro-batch, however small: launches of its kernels."""

_SHARING_S = 0.6e-9
"""Of each micro-batch for each parameter, where ranks gather weights and share out gradients."""

_READING = 0.7
"""Of a card's bandwidth that decoding reaches."""

_LAUNCH_S = 0.004
"""Of one token of all answers in flight: launches, scheduling and sampling, which no card makes faster."""

_HOST_LINK = 25e9
"""Bytes per second between host and card."""

_HOST_MEMORY = 60e9
"""Bytes per second of the host's memory that AdamW reaches there, for all ranks together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of one step."""

    sampling: float
    """Until the last answer is there."""
    floor: float
    """Of these, what the longest answer takes when it is alone: no number of cards makes it less."""
    training: float
    """Of all micro-batches and the optimizer."""
    sampled_per_s: float
    """Tokens, of all engines together."""
    trained_per_s: float
    """Tokens, of all ranks together."""

    @property
    def total(self) -> float:
        """Of the step."""
        return self.sampling + self.training


_COMPUTED: dict[Activations, tuple[float, float]] = {
    "keep": (3 / 4, 7 / 9),
    "selective": (0.8, 7 / 9),
    "attention": (1.0, 7 / 9),
    "recompute": (1.0, 1.0),
    "offload": (1.0, 1.0),
}
"""Shares of the work of linear layers and of attention, where the peer's figures are of ``recompute``: a forward pass
is a quarter of the one, and two ninths of the other, whose backward pass computes scores again."""


def training_s(training: Training, machine: Machine, *, num_tokens: float, length: float) -> float:
    """Return the seconds in which all cards together train on so many tokens, nothing offloaded.

    Args:
        training: The model, and how large its micro-batches are.
        machine: The cards.
        num_tokens: Of the step.
        length: Of a sequence, in tokens: attention costs more in long ones.
    """
    shape = training.shape
    efficiency = min(_MOST, _LINEAR * shape.hidden / _LINEAR_WIDTH)
    linear = 6 * shape.parameters / (efficiency * machine.card.flops)
    attention = 6 * shape.full_layers * shape.query * length / (_ATTENTION * machine.card.flops)
    share, share_of_attention = _COMPUTED[training.activations]
    linear, attention = share * linear, share_of_attention * attention
    one_pass = _PASS_S + (_SHARING_S * shape.parameters if machine.num_ranks > 1 else 0.0)
    return num_tokens / machine.num_ranks * (linear + attention) + one_pass * num_microbatches(
        training, num_tokens, length=length
    )


def num_microbatches(training: Training, num_tokens: float, *, length: float) -> int:
    """Return how many micro-batches each rank takes part in for so many tokens of all ranks.

    Args:
        training: Of the ranks.
        num_tokens: Of all sequences.
        length: Of one: a micro-batch of its own where sequences are not packed.
    """
    tokens = training.tokens if training.shape.packs else length
    return ceil(num_tokens / (tokens * (training.num_ranks // training.context_parallel)))


def offloading_s(training: Training, *, num_tokens: float, length: float) -> float:
    """Return the seconds that a step of so many tokens takes longer by what the host keeps.

    Args:
        training: How it is trained.
        num_tokens: Of the step.
        length: Of a sequence, in tokens.
    """
    inputs = 2 * training.num_bytes * training.shape.layers * training.shape.hidden * num_tokens / training.num_ranks
    seconds = inputs / _HOST_LINK if training.activations == "offload" else 0.0
    if not training.offloads:
        return seconds
    share = training.stored / training.num_ranks
    trained = WIDE * training.trained / training.num_ranks
    copies = (2 * share + trained) * num_microbatches(training, num_tokens, length=length) / _HOST_LINK
    return seconds + copies + 7 * WIDE * training.trained / _HOST_MEMORY


def decoding_s(
    shape: ModelShape,
    machine: Machine,
    *,
    in_flight: float,
    held_tokens: float,
    tensor_parallel: int,
    cache_bytes: float,
) -> float:
    """Return the seconds of one token of each answer in flight.

    Args:
        shape: Of the model.
        machine: The cards.
        in_flight: Answers of one engine.
        held_tokens: Of each, on the average.
        tensor_parallel: Cards that share the engine.
        cache_bytes: Of one token.
    """
    read = (2 * shape.parameters + in_flight * (held_tokens * cache_bytes + shape.state_bytes)) / tensor_parallel
    computed = 2 * shape.parameters * in_flight / tensor_parallel / (0.5 * machine.card.flops)
    return max(read / (_READING * machine.card.bandwidth), computed) + _LAUNCH_S
