"""The head: logistic regression on hidden states, and how well it ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_STEPS = 200
"""Of L-BFGS, at most; on standardised states it is done sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A linear classifier of hidden states."""

    weight: Float[Tensor, " hidden"]
    """Of each component."""

    bias: Float[Tensor, ""]
    """Of the log-odds."""

    def probabilities(self, states: Float[Tensor, "completions hidden"]) -> list[float]:
        """Return how likely each completion is right, from 0 to 1."""
        return (states.double() @ self.weight + self.bias).sigmoid().tolist()


def fit_head(
    states: Float[Tensor, "completions hidden"], correct: Sequence[bool], *, weight_decay: float = 1e-2
) -> Head:
    """Fit a head to graded completions by logistic regression; the same data give the same head.

    Minimises the mean cross-entropy plus ``weight_decay / 2 * |w|^2`` in float64, ``w`` being the weights of the
    standardised states.

    Args:
        states: Last hidden state of each completion.
        correct: Whether each is right.
        weight_decay: Keeps the weights small where there are fewer completions than components.

    Raises:
        ValueError: If all are right, or all wrong.
    """
    labels = torch.tensor(correct, dtype=torch.float64)
    if labels.min() == labels.max():
        raise ValueError(f"all {len(correct)} completions are {'right' if correct[0] else 'wrong'}")
    every = states.double()
    mean, scale = every.mean(dim=0), every.std(dim=0).clamp(min=1e-6)
    inputs = (every - mean) / scale
    weight = torch.zeros(every.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weight + bias, labels)
        loss = loss + weight_decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    found = weight.detach() / scale
    return Head(weight=found, bias=bias.detach() - found @ mean)


def area_under_curve(scores: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Return the probability that a right completion scores higher than a wrong one, ties counting half (AUC).

    Args:
        scores: Of completions.
        correct: Whether each is right.

    Returns:
        ``None`` where all are right, or all wrong.
    """
    right = torch.tensor([score for score, good in zip(scores, correct, strict=True) if good], dtype=torch.float64)
    wrong = torch.tensor([score for score, good in zip(scores, correct, strict=True) if not good], dtype=torch.float64)
    if not len(right) or not len(wrong):
        return None
    wrong = wrong.sort().values
    below, up_to = torch.searchsorted(wrong, right), torch.searchsorted(wrong, right, right=True)
    return float((below + up_to).sum()) / (2 * len(right) * len(wrong))
