"""The optimizer of a policy; its moments are there before its first step, which then needs no memory of its own."""

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.tensor import DTensor

from polaris_train.errors import OptimizerMemoryError
from polaris_train.model.exhaustion import give_back_memory, is_out_of_memory
from polaris_train.model.policy import Policy


def policy_optimizer(
    policy: Policy, *, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.01
) -> torch.optim.Optimizer:
    """Return AdamW over what of a policy is trained, as it is before the first step.

    It is fused: one pass over parameters, gradients and moments, on a GPU and on the host, instead of one for each of
    the formula's operations. Its moments, zero, are allocated here: in the first step, where torch would allocate them,
    answers have been sampled, gradients have their memory, and what is left behind cannot be stepped with again.

    Raises:
        OptimizerMemoryError: If there is no room for the moments.
    """
    trained = policy.trained_parameters()
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)
    try:
        start_moments(policy, optimizer)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        own = sum(each.to_local().numel() if isinstance(each, DTensor) else each.numel() for each in trained)
        raise OptimizerMemoryError(num_parameters=own) from error
    return optimizer


def start_moments(policy: Policy, optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer that has not stepped its state: torch makes it by a step of no length, which counts."""
    get_optimizer_state_dict(policy, optimizer, options=StateDictOptions(ignore_frozen_params=True))
    for each in optimizer.state.values():
        each["step"].zero_()
    give_back_memory()  # that of the gradients, which an engine may need meanwhile
