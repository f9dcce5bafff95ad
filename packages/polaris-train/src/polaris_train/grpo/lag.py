"""How old the weights that drew a token are, where a stage samples ahead.

The lag of a token is the number of steps by which the weights that drew it are older than those that its step begins
with: ``step - 1 - n`` for weights that ``n`` steps made. A completion in flight goes on under new weights, so the lag
may change within it. Each token's log-probability is the one that it was drawn with, whatever its lag.
"""

from polaris_rollout import Completion, Group


def spans(group: Group, completion: Completion) -> tuple[tuple[int, str], ...]:
    """Return from which token on which version of the weights drew a completion of a group."""
    return completion.weights or ((0, group.weights_version),)


def steps_done(version: str) -> int:
    """Return how many steps of its stage made weights, by their name (``ResolvedStage.weights_version``).

    Raises:
        ValueError: If the name does not end with ``+`` and a number.
    """
    name, _, number = version.rpartition("+")
    if not (name and number.isdecimal()):
        raise ValueError(f"{version!r} does not say how many steps made the weights; it ends with + and their number")
    return int(number)


def token_lags(group: Group, completion: Completion, *, step: int) -> tuple[int, ...]:
    """Return the lag of each token of a completion.

    Args:
        group: Of the completion.
        completion: With the versions that drew it.
        step: That trains on it, counted from 1.

    Raises:
        ValueError: If a version does not say how many steps made it.
    """
    drawn = spans(group, completion)
    ends = [first for first, _ in drawn[1:]] + [len(completion.token_ids)]
    lags: list[int] = []
    for (first, version), end in zip(drawn, ends, strict=True):
        lags += [step - 1 - steps_done(version)] * (end - first)
    return tuple(lags)
