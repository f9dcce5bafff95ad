"""What a stage's recipe leaves to the machine: derived from the card that the ranks find, as a plan derives it."""

import logging
import os
from typing import Any

import torch
import torch.distributed as dist

from polaris_train.errors import PlanError, RecipeError
from polaris_train.planning import GIB, Card, Derived, Machine, derive, find_machine, model_shape, offloading
from polaris_train.resolved import ResolvedStage
from polaris_train.stage.host_memory import available_bytes

logger = logging.getLogger(__name__)


def fitted(config: ResolvedStage, device: torch.device, *, allowed: int | None = None) -> ResolvedStage:
    """Return a stage with nothing left open for this machine; collective.

    On a CPU nothing is derived. A model that cannot be planned is trained as the recipe says.

    Args:
        config: As its folder keeps it.
        device: Of this rank.
        allowed: Tokens of a micro-batch that an earlier attempt's lack of memory left, where there was one.

    Raises:
        RecipeError: If the host has not the memory for what is offloaded.
    """
    if device.type != "cuda":
        return settled(config, None, allowed=allowed)
    machine = machine_here(device)
    derived = derived_on(machine, config)
    if derived is not None:
        ranks_here = _ranks_here()
        available = machine.host_gib * GIB / machine.num_ranks * ranks_here
        require_host_memory(derived, num_ranks=ranks_here, available=available)
    found = settled(config, derived, allowed=allowed)
    if derived is not None and dist.get_rank() == 0:
        _tell(found, derived, machine)
    return found


def settled(config: ResolvedStage, derived: Derived | None, *, allowed: int | None = None) -> ResolvedStage:
    """Return a stage with what was derived where its recipe says nothing; what it says is kept.

    Args:
        config: As its folder keeps it.
        derived: By the plan; ``None`` where there is none.
        allowed: As of `fitted`: micro-batches become no larger, whoever chose them.
    """
    values: dict[str, Any] = {
        "cpu_offload": bool(config.cpu_offload),
        "context_parallel": config.context_parallel or 1,
    }
    if derived is not None:
        training = derived.training
        values = {
            "cpu_offload": training.offloads,
            "activations": training.activations,
            "reduce_each_microbatch": training.reduces_each,
            "context_parallel": training.context_parallel,
        }
        if config.microbatch_tokens is None:
            # One that was chosen may be less than the longest sequence, which the plan counts with.
            values["microbatch_tokens"] = -(-training.tokens // training.context_parallel)
    found = config.model_copy(update=values)
    if allowed is None:
        return found
    return found.model_copy(update={"microbatch_tokens": min(allowed, found.max_microbatch_tokens)})


def _tell(config: ResolvedStage, derived: Derived, machine: Machine) -> None:
    for problem in derived.problems:
        logger.warning(
            "by plan this stage does not fit: %s; it is tried all the same, and 'polaris-train plan RECIPE --gpus %d "
            "--gpu-memory %.0f --host-memory %.0f' names the cheapest changes with which it would fit",
            *(problem, machine.num_ranks, machine.memory_gib, machine.host_gib),
        )
    logger.info(
        "by plan: %.1f GiB of each GPU to train; micro-batches of %d tokens, activations: %s%s",
        derived.memory.total / GIB,
        config.max_microbatch_tokens,
        config.activations,
        ", parameters on the host" * bool(config.cpu_offload)
        + ", gradients shared out after every micro-batch" * config.reduce_each_microbatch
        + f", {config.context_parallel} ranks a sequence" * (config.context_parallel != 1),
    )


def derived_on(machine: Machine, config: ResolvedStage) -> Derived | None:
    """Return the plan of a stage on the machine of its ranks, ``None`` if its model cannot be planned."""
    try:
        shape = model_shape(config.model)
    except PlanError as error:
        if dist.get_rank() == 0:
            logger.warning("nothing is derived from the memory of this machine: %s", error)
        return None
    options, supervised = config.engine | config.engine_room, config.sft is not None
    return derive(config, config.context, options, shape, machine, supervised=supervised)


def machine_here(device: torch.device) -> Machine:
    """Return the devices of all ranks, each as the smallest and with the smallest share of its host; collective.

    Their speed plays no part.
    """
    if device.type == "cpu":
        return find_machine("cpu", num_ranks=dist.get_world_size(), memory_gib=available_bytes() / GIB)
    least = torch.tensor(
        [torch.cuda.mem_get_info(device)[1] / GIB, available_bytes() / GIB / _ranks_here()], dtype=torch.float64
    )
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    memory, host = least.tolist()
    card = Card(name=torch.cuda.get_device_name(device), memory_gib=memory, bandwidth=1.0, flops=1.0)
    num_ranks = dist.get_world_size()
    return Machine(
        card=card,
        num_ranks=num_ranks,
        ranks_per_node=_ranks_here(),
        memory_gib=memory,
        host_gib=host * num_ranks,
    )


def _ranks_here() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def require_host_memory(derived: Derived, *, num_ranks: int, available: float) -> None:
    """Refuse to offload what the host would have to swap.

    Args:
        derived: What its ranks offload.
        num_ranks: On this host.
        available: Of its memory, in bytes.

    Raises:
        RecipeError: Naming what is needed and what there is.
    """
    if (needed := derived.memory.host * num_ranks) > available:
        raise RecipeError(
            f"{offloading(derived.training)} needs {needed / GIB:.0f} GiB of this host's memory for its ranks and "
            f"{available / GIB:.0f} are available; use lora.rank, a smaller model, or more nodes"
        )
