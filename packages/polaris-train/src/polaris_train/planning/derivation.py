"""What a recipe leaves to the machine, derived: the fastest way to train that fits, and an engine beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, gcd
from typing import Any

from polaris_rollout.engines import HELD_SHARE, answers_within

from polaris_train.planning.cards import GIB, Machine
from polaris_train.planning.engine import EngineMemory, engine_memory
from polaris_train.planning.memory import Training, TrainingMemory, training_memory
from polaris_train.planning.shapes import ModelShape, model_shape
from polaris_train.recipe import Recipe
from polaris_train.recipe.tables import Activations
from polaris_train.resolved import ResolvedStage

MOST_IN_FLIGHT = 256
"""Answers that one engine works on."""

MICROBATCH_TOKENS = 32768
"""Of one micro-batch: more brings no speed."""

ROOM = 0.95
"""Of a card that may be filled by what is there for speed: larger micro-batches than the longest sequence."""

_ACTIVATIONS: tuple[Activations, ...] = ("recompute", "offload")
"""What is tried on a card. Keeping more is faster, and what it needs is known by formula only: a recipe says so."""

_CACHE_BYTES = {"fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """One way to run a stage."""

    training: Training
    memory: TrainingMemory
    engine: EngineMemory | None
    """``None`` on a CPU, where servers sample, and where nothing does."""
    in_flight: int
    """Answers that each engine works on at the same time."""
    problems: tuple[str, ...]
    """Why it does not fit; nothing where it does."""


def derive(
    recipe: Recipe | ResolvedStage,
    context: int,
    options: Mapping[str, Any],
    shape: ModelShape,
    machine: Machine,
    *,
    supervised: bool = False,
) -> Derived:
    """Return the fastest way to run a stage that fits, or that which is the nearest to it.

    Args:
        recipe: What it leaves open is derived; what it says is kept.
        context: Of the stage.
        options: Of vLLM.
        shape: Of the model.
        machine: Its ranks share the parameters.
        supervised: It learns from traces: it has no reference, and samples only to evaluate.
    """
    trained = _ways(recipe, context, shape, machine, supervised=supervised)
    ways = [_derived(recipe, context, options, machine, each) for each in trained]
    if fitting := next((each for each in ways if not each.problems), None):
        return fitting
    return min(ways, key=lambda each: (len(each.problems), _shortage(each, machine), each.memory.resident))


def offloading(training: Training) -> str:
    """Return the settings by which a training needs memory of the host."""
    names = ["cpu_offload"] if training.offloads else []
    return " and ".join(names + (["activations = 'offload'"] if training.activations == "offload" else []))


def cache_value_bytes(options: Mapping[str, Any]) -> float:
    """Return the bytes of a number in the engine's cache."""
    return _CACHE_BYTES.get(options.get("kv_cache_dtype", "auto"), 2.0)


def _ways(
    recipe: Recipe | ResolvedStage, context: int, shape: ModelShape, machine: Machine, *, supervised: bool
) -> Iterator[Training]:
    """Yield what may be derived for a stage, the fastest first."""
    wide = machine.on_cpu or recipe.precision == "float32"
    taught = recipe.distillation
    plain = Training(
        shape=shape,
        tokens=context,
        num_ranks=machine.num_ranks,
        rank=recipe.lora.rank if recipe.lora else None,
        on_cpu=machine.on_cpu,
        num_bytes=4 if wide else 2,
        frozen_bytes=4 if wide else 2,
        references=1 if recipe.kl_coef and not recipe.lora and not supervised else 0,
        has_engine=bool(recipe.evaluate_every) or not supervised,
        teacher=model_shape(taught.teacher) if taught and not taught.is_served and not supervised else None,
    )
    # Parameters on the host leave an engine the more cache: activations there, and gradients shared out, come after it.
    hosts = (False, True) if recipe.cpu_offload is None and not machine.on_cpu else (bool(recipe.cpu_offload),)
    reducing = (True,) if recipe.reduce_each_microbatch else (False, True)
    # Ranks that share a sequence gather all weights for a part of it: nothing else costs as much time.
    degrees = _degrees(machine, plain) if recipe.context_parallel is None else (recipe.context_parallel,)
    for degree, activations, reduces, offloads in product(degrees, _activations(recipe, machine), reducing, hosts):
        way = replace(
            plain,
            tokens=max(context, (recipe.microbatch_tokens or 0) * degree) if shape.packs else context,
            context_parallel=degree,
            offloads=offloads,
            reduces_each=reduces,
            activations=activations,
        )
        is_open = recipe.microbatch_tokens is None and shape.packs and not machine.on_cpu
        yield _with_room(way, machine) if is_open else way


def _degrees(machine: Machine, training: Training) -> list[int]:
    """Return the numbers of ranks that can share a sequence, ascending: of one node, with as many heads each."""
    shapes = [training.shape] if training.teacher is None else [training.shape, training.teacher]
    most = 1 if machine.on_cpu or not all(each.packs for each in shapes) else machine.ranks_per_node
    shared = gcd(machine.num_ranks, machine.ranks_per_node, *(each.heads for each in shapes))
    return [each for each in range(1, most + 1) if shared % each == 0]


def _activations(recipe: Recipe | ResolvedStage, machine: Machine) -> tuple[Activations, ...]:
    """Return what layers may keep for the backward pass, the fastest first."""
    if recipe.activations:
        return (recipe.activations,)
    return ("keep",) if machine.on_cpu else _ACTIVATIONS


def _with_room(training: Training, machine: Machine) -> Training:
    """Return the training with as large a micro-batch as has room; not below the longest sequence."""
    for times in range(MICROBATCH_TOKENS // training.tokens, 1, -1):
        larger = replace(training, tokens=times * training.tokens)
        if training_memory(larger).total <= ROOM * machine.memory_gib * GIB:
            return larger
    return training


def _derived(
    recipe: Recipe | ResolvedStage, context: int, options: Mapping[str, Any], machine: Machine, training: Training
) -> Derived:
    memory = training_memory(training)
    engine = None
    if training.has_engine and not machine.on_cpu and not recipe.endpoints:
        engine = engine_memory(
            training.shape,
            memory=machine.memory_gib * GIB,
            resident=memory.resident,
            tensor_parallel=recipe.tensor_parallel,
            share=options.get("gpu_memory_utilization"),
            value_bytes=cache_value_bytes(options),
        )
    answers = recipe.prompts_per_step * recipe.samples_per_prompt
    most = min(
        -(-answers // max(1, machine.num_ranks // recipe.tensor_parallel)), options.get("max_num_seqs", MOST_IN_FLIGHT)
    )
    return Derived(
        training=training,
        memory=memory,
        engine=engine,
        in_flight=most if engine is None else min(most, _answers(engine, context)),
        problems=tuple(_missing(recipe, context, machine, training, memory, engine)),
    )


def _shortage(way: Derived, machine: Machine) -> float:
    """Return the bytes that each rank lacks to train, on its card and of its host."""
    card = way.memory.total - machine.memory_gib * GIB
    host = way.memory.host - machine.host_gib * GIB / machine.num_ranks
    return max(0.0, card) + max(0.0, host)


def _answers(engine: EngineMemory, context: int) -> int:
    """Return how many answers an engine has room for, each with its state and the usual share of its context."""
    return answers_within(engine.cache_tokens, context + ceil(engine.state_tokens / HELD_SHARE))


def _missing(
    recipe: Recipe | ResolvedStage,
    context: int,
    machine: Machine,
    training: Training,
    memory: TrainingMemory,
    engine: EngineMemory | None,
) -> Iterator[str]:
    """Yield what does not fit, each in a few words."""
    name, host = machine.card.name, memory.host * machine.num_ranks / GIB
    if memory.total > machine.memory_gib * GIB:
        yield (
            f"training at a context of {context:,} needs {memory.total / GIB:.1f} GiB of "
            f"{'the host' if machine.on_cpu else f'each {name}'}, which has {machine.memory_gib:g}"
        )
    if host > machine.host_gib:
        yield f"{offloading(training)} needs {host:.0f} GiB of the host's memory, which has {machine.host_gib:.0f}"
    if engine and engine.cache_tokens < context + engine.state_tokens:
        yield (
            f"the engine has {engine.share:.2f} of each {name}, which leaves {engine.cache_tokens:,} tokens of cache, "
            f"and one answer may need {context:,}"
        )
    if machine.num_ranks % recipe.tensor_parallel:
        yield f"tensor_parallel = {recipe.tensor_parallel} does not divide {machine.num_ranks} ranks"
