"""A plan as text: on the terminal, and as the comment at the head of a recipe."""

from collections.abc import Iterator
from textwrap import wrap

from polaris_train.planning.cards import GIB
from polaris_train.planning.recipes import RecipePlan
from polaris_train.planning.stages import TYPICAL_ANSWER, StagePlan

_ROWS = {
    "masters": "parameters",
    "moments": "Adam's moments",
    "gradients": "gradients",
    "unsharded_gradients": "gradients, whole, between micro-batches",
    "gathered": "weights gathered, layers on their way",
    "activations": "activations",
    "head": "output head",
    "engine": "sleeping engine",
    "reserve": "reserve",
}
_WIDTH = 40


def describe_plan(plan: RecipePlan) -> str:
    """Return what a recipe needs, stage by stage."""
    return "\n\n".join(
        ["\n".join(_heading(plan)), *("\n".join(_stage(plan, each)) for each in plan.stages), _sum(plan)]
    )


def summary(plan: RecipePlan) -> str:
    """Return the plan in a sentence."""
    machine = plan.machine
    most = max(stage.derived.memory.total for stage in plan.stages) / GIB
    if machine.on_cpu:
        return f"training takes at most {most:.1f} GiB of this machine, by plan"
    cards = f"{machine.num_ranks} x {machine.card.name} of {machine.memory_gib:g} GiB"
    said = f"{cards}, by plan: training takes at most {most:.0f} GiB of each"
    if plan.hours:
        said += f"; {_hours(plan.hours)}, {plan.hours * machine.num_ranks:,.0f} GPU-hours"
    if floor := sum(stage.floor_hours for stage in plan.stages):
        said += f", of which {_hours(floor)} wait for the longest answers"
    return said


def comment(plan: RecipePlan) -> str:
    """Return the lines that a packaged recipe's file begins its account of memory and time with."""
    lines = [f"Plan for {summary(plan).replace(', by plan:', ':')}."]
    lines += [f"{each.stage}: {_memory_line(each)}; {_derived(each)}; {_time_line(each)}." for each in plan.stages]
    wrapped = (line for paragraph in lines for line in wrap(paragraph, width=118, subsequent_indent="  "))
    return "\n".join(f"# {line}" for line in wrapped)


def _heading(plan: RecipePlan) -> Iterator[str]:
    machine, shape = plan.machine, plan.shape
    where = f"a CPU with {machine.memory_gib:g} GiB"
    if not machine.on_cpu:
        where = (
            f"{machine.num_ranks} x {machine.card.name} of {machine.memory_gib:g} GiB, host {machine.host_gib:,.0f} GiB"
        )
    yield f"{plan.recipe.name} on {where}"
    trained = ""
    if plan.recipe.lora:
        adapters = shape.adapter_parameters(plan.recipe.lora.rank)
        trained = f"; adapters of rank {plan.recipe.lora.rank}: {_count(adapters)}"
    yield f"{plan.recipe.model}: {_count(shape.parameters)} parameters in {shape.layers} layers{trained}"


def _stage(plan: RecipePlan, stage: StagePlan) -> Iterator[str]:
    yield f"{stage.stage}: context {stage.context:,}, {_steps(stage)}"
    yield f"  {'GiB of each rank':{_WIDTH}} training  sampling"
    for name, label in _ROWS.items():
        training = getattr(stage.derived.memory, name) / GIB
        stays = training if name in ("masters", "moments", "reserve") and stage.derived.engine else None
        if training:
            yield _row(label, training, stays)
    if stage.derived.engine:
        yield _row("engine: weights", None, stage.derived.engine.weights / GIB)
        yield _row("engine: work space", None, stage.derived.engine.work / GIB)
        answers = f"engine: cache of {stage.derived.engine.cache_tokens:,} tokens"
        yield _row(answers, None, max(0.0, stage.derived.engine.cache) / GIB)
    yield _row("in all", stage.derived.memory.total / GIB, _sampling(stage))
    if stage.derived.memory.host:
        yield f"  {'of the host, by each rank':{_WIDTH}} {stage.derived.memory.host / GIB:8.2f}"
    yield f"  derived: {_derived(stage)}"
    if stage.time:
        yield f"  a step: {_time_line(stage)}"
    if stage.time and stage.traces_per_step:
        hours = stage.hours if stage.steps else 1000 / stage.traces_per_step * stage.time.total / 3600
        yield f"  {_steps(stage) if stage.steps else '1,000 traces, once'}: {_hours(hours)}, evaluations left out"
    elif stage.time:
        yield (
            f"  {stage.steps} steps: {_hours(stage.hours)}, {stage.hours * plan.machine.num_ranks:,.0f} GPU-hours, "
            f"evaluations included; at least {_hours(stage.floor_hours)} with any number of cards"
        )


def _steps(stage: StagePlan) -> str:
    if stage.traces_per_step is None:
        return f"{stage.steps} steps"
    many = "as many steps as its traces give" if stage.steps is None else f"at most {stage.steps:,} steps"
    return f"{many}, each of {stage.traces_per_step} traces"


def _sampling(stage: StagePlan) -> float | None:
    if stage.derived.engine is None:
        return None
    memory = stage.derived.memory
    used = (
        memory.resident
        + memory.reserve
        + stage.derived.engine.weights
        + stage.derived.engine.work
        + max(0.0, stage.derived.engine.cache)
    )
    return used / GIB


def _row(label: str, training: float | None, sampling: float | None) -> str:
    cells = [" " * 8 if value is None else f"{value:8.2f}" for value in (training, sampling)]
    return f"  {label:{_WIDTH}} {cells[0]}  {cells[1]}".rstrip()


def _memory_line(stage: StagePlan) -> str:
    host = f" and {stage.derived.memory.host / GIB:.0f} of the host" if stage.derived.memory.host else ""
    return f"{stage.derived.memory.total / GIB:.0f} GiB to train{host}"


def _derived(stage: StagePlan) -> str:
    parts: list[str] = []
    if stage.derived.engine:
        parts.append(f"engine {stage.derived.engine.share:.2f} of the memory")
    if stage.traces_per_step is None:
        parts.append(f"{stage.derived.in_flight} answers in flight")
    parts.append(f"micro-batches of {stage.derived.training.tokens:,} tokens")
    if stage.derived.training.activations != "recompute":  # Usual on a card.
        parts.append(f"activations: {stage.derived.training.activations}")
    if stage.derived.training.offloads:
        parts.append("parameters on the host")
    if stage.derived.training.reduces_each:
        parts.append("gradients shared out after every micro-batch")
    if stage.derived.training.context_parallel > 1:
        parts.append(f"{stage.derived.training.context_parallel} ranks a sequence")
    return ", ".join(parts)


def _time_line(stage: StagePlan) -> str:
    time = stage.time
    if time is None:
        return "no time"
    if stage.traces_per_step:
        return f"{_minutes(time.training)} to train ({time.trained_per_s:,.0f} tokens/s)"
    return (
        f"{_minutes(time.sampling)} to sample ({time.sampled_per_s:,.0f} tokens/s; the longest answer alone "
        f"{_minutes(time.floor)}), {_minutes(time.training)} to train ({time.trained_per_s:,.0f} tokens/s)"
    )


def _sum(plan: RecipePlan) -> str:
    said = f"All stages: {summary(plan)}."
    if unknown := [stage.stage for stage in plan.stages if stage.steps is None]:
        said += f" Without the time of {', '.join(unknown)}: how many traces there will be is not known."
    if plan.machine.on_cpu:
        return said
    what, trained = "Traces", ""
    if not all(stage.traces_per_step for stage in plan.stages):
        what, trained = "Answers", "; every group is trained on"
    mean = ", ".join(f"{stage.answer_tokens:,.0f}" for stage in plan.stages)
    return (
        f"{said}\n{what} of {mean} tokens on the average ({TYPICAL_ANSWER:g} of the longest unless --answer-tokens "
        f"says more){trained}. Speeds are those of data sheets and of a peer's published figures."
    )


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def _hours(hours: float) -> str:
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
