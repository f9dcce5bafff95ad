"""What the training of a stage decided: what it learned from, how that went, and why it ended."""

from collections.abc import Iterator, Sequence

from polaris_train.report.evidence import RunEvidence, StageEvidence
from polaris_train.report.lineage import TracesEvidence, public_name, tell_teacher, tell_traces
from polaris_train.report.steps import RecipeStep, recipe_step


def traces_step(run: RunEvidence, stage: StageEvidence, traces: TracesEvidence, prefix: str) -> RecipeStep:
    """Return what a stage of supervised fine-tuning learns from, where that comes from, and what was left out."""
    key, name = f"{stage.name}.traces", f"{prefix}traces"
    if traces.num_traces is None and not traces.is_own:
        waiting = f"{public_name(traces.source)} is not read yet"
        return RecipeStep(key=key, name=name, state="open", result="", sentence=waiting)
    result = None if traces.num_traces is None else f"{traces.num_traces:,} traces"
    return recipe_step(run, key, name, result, lambda: "; ".join(tell_traces(traces)))


def train_step(run: RunEvidence, stage: StageEvidence, prefix: str) -> RecipeStep:
    """Return how a stage learned from its own answers, and why it ended."""
    reward = f"reward {_ends([line.reward for line in stage.metrics])} over {_done(stage)} steps"
    return _trained(run, stage, prefix, [*_taught(stage), reward])


def supervised_step(run: RunEvidence, stage: StageEvidence, prefix: str) -> RecipeStep:
    """Return how a stage learned from traces, what that did to the loss, and why it ended."""
    return _trained(run, stage, prefix, [*_losses(stage)])


def _trained(run: RunEvidence, stage: StageEvidence, prefix: str, went: Sequence[str]) -> RecipeStep:
    key, name = f"{stage.name}.train", f"{prefix}train"
    done = _done(stage)
    steps = stage.resolved.steps if stage.resolved else None
    result = f"{done} steps" if stage.outcome or done == steps else f"step {done}/{steps or '?'}"

    def sentence() -> str:
        said = [", ".join([*_setting(stage), *went])]
        if stage.outcome:
            stopped, chosen = stage.outcome.stopped, stage.outcome.chosen
            said += [
                f"ended ({stopped.reason}): {stopped.sentence}",
                f"handed on: {chosen.sentence}",
            ]
        elif done == steps:
            said.append("ended at its last step; no outcome.json says which checkpoint was chosen")
        else:
            said.append("not finished")
        return "; ".join(each.rstrip(".") for each in said)

    found = recipe_step(run, key, name, result if stage.steps else None, sentence)
    is_under_way = bool(stage.steps) and not stage.outcome and done != steps and key not in run.manifests
    if is_under_way and found.state == "done":
        return RecipeStep(key=key, name=name, state="running", result=result, sentence=found.sentence)
    return found


def _done(stage: StageEvidence) -> int:
    return stage.steps[-1].step if stage.steps else 0


def _setting(stage: StageEvidence) -> Iterator[str]:
    if stage.resolved:
        yield f"context {stage.resolved.context:,}"
        if stage.resolved.lora:
            yield f"adapters of rank {stage.resolved.lora.rank}"


def _taught(stage: StageEvidence) -> Iterator[str]:
    """Yield who taught a stage, and how far from the teacher it was."""
    if table := stage.distillation:
        yield tell_teacher(table)
        if found := [line.reverse_kl for line in stage.metrics if line.reverse_kl is not None]:
            yield f"divergence from it {_ends(found, digits=3)} nats a token"


def _losses(stage: StageEvidence) -> Iterator[str]:
    """Yield the loss of the traces that were learned from, and of those that were not."""
    if stage.resolved and stage.resolved.sft:
        epochs = stage.resolved.sft.epochs
        yield f"{epochs:,} epoch{'s' if epochs > 1 else ''}"
    losses = [line.loss for line in stage.learned if line.loss is not None]
    yield f"loss {_ends(losses, digits=3)} nats a token over {_done(stage)} steps" if losses else "no loss was finite"
    validated = [(line.validation_loss, line.step) for line in stage.learned if line.validation_loss is not None]
    if validated:
        (first, _), (last, at) = validated[0], validated[-1]
        least, least_at = min(validated)
        lowest = f" (lowest {least:.3f} after step {least_at})" if least < last else ""
        values = f"{last:.3f} after step {at}" if len(validated) == 1 else f"{first:.3f} to {last:.3f}"
        yield f"validation loss {values}{lowest}"


def _ends(values: Sequence[float], num: int = 3, digits: int = 2) -> str:
    """Return where values started and ended: means over a few steps at each end, none of them in both."""
    if not values:
        return "?"
    num = max(1, min(num, len(values) // 2))
    first, last = values[:num], values[-num:]
    return f"{sum(first) / len(first):.{digits}f} to {sum(last) / len(last):.{digits}f}"
