"""Is the engine sampling from the model it is said to hold? A few short answers tell.

The engine answers fixed prompts; a reference says how probable each sampled token is under the weights that the
engine should hold. The gap is the mean of ``|p_engine - p_reference|`` over the sampled tokens. Two correct
implementations in bfloat16 differ by a few thousandths; stale or wrong weights, another rotary embedding, or
log-probabilities of another temperature by far more. The temperature is not 1, so that log-probabilities taken before
it is applied do not pass.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from polaris_rollout.contracts import Sampler
from polaris_rollout.errors import ParityError
from polaris_rollout.models import resolve_model
from polaris_rollout.records import Group, Prompt, SamplingParams
from polaris_rollout.yarn import extended_config

logger = logging.getLogger(__name__)

Reference = Callable[[Sequence[Group], float], Sequence[Sequence[Sequence[float]]]]
"""From groups and the temperature they were sampled at to the log-probabilities, in nats, that their tokens should
have: by group, completion and token. Called once in a check, so it may be a collective operation."""

BROKEN_GAP = 0.01
"""Largest mean ``|p_engine - p_reference|``; verl's documentation calls more than this broken."""

HEALTHY_GAP = 0.005
"""Below it nothing is said; verl's documentation calls this healthy."""

FLOAT32_GAP = 1e-3
"""Largest difference of one log-probability, in nats, where the engine computes in float32; rounding is below 1e-5."""

CANARY_PARAMS = SamplingParams(temperature=1.25, max_tokens=32, seed=0)

CANARY_SAMPLES = 2

CANARY_PROMPTS = tuple(
    Prompt(problem_id=f"canary-{number}", text=text)
    for number, text in enumerate(
        ("What is 17 + 25?", "Name a prime above 50.", "Count down from ten.", "Is 91 a prime number?"), start=1
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How an engine's log-probabilities compare with those that they should be."""

    gap: float
    """Mean ``|p_engine - p_reference|`` over the sampled tokens."""

    largest: float
    """Largest difference of one log-probability, in nats."""

    exact: bool
    """Whether both sides compute in float32, so that `FLOAT32_GAP` holds."""

    num_tokens: int
    """That were compared."""

    weights_version: str
    """Of the engine."""

    @property
    def fault(self) -> str | None:
        """What is wrong, what was compared, and what to do, in a sentence; ``None`` if nothing is."""
        # Written so that a gap that is not a number is outside.
        if not self.gap <= BROKEN_GAP:
            return self._outside("mean |p_engine - p_reference|", self.gap, BROKEN_GAP)
        if self.exact and not self.largest <= FLOAT32_GAP:
            return self._outside("largest |logp_engine - logp_reference| in float32", self.largest, FLOAT32_GAP)
        return None

    def _outside(self, what: str, gap: float, band: float) -> str:
        return (
            f"{what} is {gap:.3g}, above {band:g} (weights version {self.weights_version or 'unknown'!r}, "
            f"{self.num_tokens} tokens of {CANARY_SAMPLES} answers to each of {len(CANARY_PROMPTS)} fixed prompts at "
            f"temperature {CANARY_PARAMS.temperature:g}): the engine does not sample from the model it should hold; "
            "likely causes are other or stale weights, an output head left behind by an update, other rotary "
            "parameters (YaRN, positions), or log-probabilities taken before the temperature (logprobs mode); "
            "--no-canary, or canary = false in a recipe, goes on all the same"
        )


def check_parity(engine: Sampler, reference: Reference, *, exact: bool = True) -> float:
    """Compare the log-probabilities of a few sampled answers with those that they should have; twice if need be.

    An engine that says that it computes in float32 (``dtype``) must also agree on each token to `FLOAT32_GAP`.

    Args:
        engine: Anything that samples.
        reference: Called once, and again if the first comparison fails.
        exact: Whether the reference computes in float32 too, where the engine does.

    Returns:
        Mean ``|p_engine - p_reference|`` over the sampled tokens.

    Raises:
        ParityError: If the gap is outside the band or not a number in both comparisons.
        PromptTooLongError: If the context has no room for the canary's prompts, of about 35 tokens.
    """
    parity = measure_parity(engine, reference, exact=exact)
    if parity.fault is not None:
        logger.warning("%s; comparing once more", parity.fault)
        parity = measure_parity(engine, reference, exact=exact)
    if parity.fault is not None:
        raise ParityError(parity.fault)
    return parity.gap


def measure_parity(engine: Sampler, reference: Reference, *, exact: bool = True) -> Parity:
    """Compare once, as `check_parity` does, and refuse nothing; ``reference`` is called exactly once."""
    groups = sorted(engine.sample(CANARY_PROMPTS, CANARY_PARAMS, n=CANARY_SAMPLES), key=lambda group: group.problem_id)
    expected = reference(groups, CANARY_PARAMS.temperature)
    pairs = [
        (found, right)
        for group, completions in zip(groups, expected, strict=True)
        for completion, logprobs in zip(group.completions, completions, strict=True)
        for found, right in zip(completion.logprobs, logprobs, strict=True)
    ]
    parity = Parity(
        gap=sum(abs(math.exp(found) - math.exp(right)) for found, right in pairs) / len(pairs),
        largest=max(abs(found - right) for found, right in pairs),
        exact=exact and getattr(engine, "dtype", None) == "float32",
        num_tokens=len(pairs),
        weights_version=groups[0].weights_version,
    )
    if HEALTHY_GAP < parity.gap <= BROKEN_GAP:
        logger.warning(
            "engine and reference differ: mean |p_engine - p_reference| is %.4f over %d tokens", parity.gap, len(pairs)
        )
    return parity


def transformers_logprobs(model: str, *, context: int | None, yarn_factor: float | None = None) -> Reference:
    """Return a reference that loads a model with transformers on CPU when it is called, and frees it afterwards.

    It computes in float32 where there is no GPU, as the engine does there, and else in the model's own precision.

    Args:
        model: A folder, a Hub id, or a carried name.
        context: The engine's; beyond the model's positions the reference uses YaRN as the engine does.
        yarn_factor: The engine's.
    """

    def logprobs(groups: Sequence[Group], temperature: float) -> list[list[list[float]]]:
        import torch
        from transformers import AutoModelForCausalLM

        loaded: Any = AutoModelForCausalLM.from_pretrained(
            resolve_model(model),
            config=extended_config(model, context=context, factor=yarn_factor),
            dtype="auto" if torch.cuda.is_available() else torch.float32,
        )
        return [group_logprobs(loaded, group, temperature) for group in groups]

    return logprobs


def group_logprobs(model: Any, group: Group, temperature: float) -> list[list[float]]:
    """Return the log-probability, in nats, of each token of a group's completions under a transformers model.

    Args:
        model: A causal language model on one device; its logits are taken to float32.
        group: Its completions share one forward pass.
        temperature: Divides the logits.
    """
    import torch

    prompt = group.prompt_token_ids
    rows = [torch.tensor(prompt + completion.token_ids) for completion in group.completions]
    # Padding on the right is out of sight of a causal model.
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
    with torch.inference_mode():
        logits = model(batch).logits[:, len(prompt) - 1 : -1]
        whole = (logits.float() / temperature).log_softmax(-1)
        picked = whole.gather(-1, batch[:, len(prompt) :, None])[:, :, 0].tolist()
    return [row[: len(completion.token_ids)] for row, completion in zip(picked, group.completions, strict=True)]
