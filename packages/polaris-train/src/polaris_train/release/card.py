"""The card of a released model: where it comes from, how it is used, what was measured."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from polaris_data.problems import IMPORTERS

from polaris_train.release.inference import Inference
from polaris_train.release.licences import stated_licence
from polaris_train.report.decisions import recipe_steps
from polaris_train.report.document import Part, Section, Table, Text, Warning, markdown
from polaris_train.report.evaluations import evaluation_parts, protocol_hashes
from polaris_train.report.evidence import EVALUATIONS, RunEvidence, StageEvidence
from polaris_train.report.lineage import is_hub_id, public_name, teacher_name


def write_card(
    folder: Path,
    *,
    name: str,
    base: str | None,
    run: RunEvidence | None,
    inference: Inference,
    yarn: Mapping[str, Any],
    scheme: str | None,
    licence: str | None,
) -> None:
    """Write ``README.md`` as the Hub shows it: metadata first, then Markdown.

    Paths of this machine are not said: a base model or a data set that is a folder has its last name alone.

    Args:
        folder: Of the model.
        name: Of the model.
        base: What it was trained from.
        run: What is known about how; ``None`` for a model whose run is not here.
        inference: As written into the folder.
        yarn: The rotary parameters, nothing without YaRN.
        scheme: How it is quantised.
        licence: Of the base, which holds for what was made from it; ``None`` if that is not known.
    """
    sections = [
        Section("use", "Use", _use_parts(name, inference, yarn)),
        *([Section("scores", "Scores", _score_parts(run, scheme))] if run else []),
        *([Section("training", "How it was made", _training_parts(run))] if run else []),
        Section("licence", "Licence", [_licence_part(base, licence)]),
    ]
    lead = [_origin(base, run)]
    if scheme:
        lead.append(f"Its linear layers are quantised: {scheme} (compressed-tensors, rounded to nearest).")
    metadata = _metadata(name, base, run, scheme, licence).to_yaml()
    text = f"---\n{metadata}\n---\n\n{markdown(name, lead, sections)}"
    (folder / "README.md").write_text(text, encoding="utf-8")


def _origin(base: str | None, run: RunEvidence | None) -> str:
    start = f"from {public_name(base)} " if base else ""
    recipe = f", recipe {run.recipe.name}" if run and run.recipe else ""
    if run is None:
        return f"Made {start}with polaris."
    ways = dict.fromkeys(_way(stage) for stage in _ended(run))
    return f"Trained {start}with {', then '.join(ways)} (polaris{recipe})."


def _ended(run: RunEvidence) -> list[StageEvidence]:
    """Return the stages that the model has gone through."""
    return [stage for stage in run.stages if stage.outcome]


def _way(stage: StageEvidence) -> str:
    """Return how a stage learned."""
    if stage.traces:
        return "supervised fine-tuning on traces"
    rewarded, table = "reinforcement learning on verifiable problems", stage.distillation
    if table is None:
        return rewarded
    taught = f"on-policy distillation from {teacher_name(table)}"
    return f"{rewarded} and {taught}" if table.reward else taught


def _tags(stage: StageEvidence) -> Iterator[str]:
    if stage.traces:
        yield "sft"
        return
    if stage.distillation:
        yield "distillation"
    if stage.distillation is None or stage.distillation.reward:
        yield stage.resolved.loss if stage.resolved else "grpo"


def _metadata(
    name: str, base: str | None, run: RunEvidence | None, scheme: str | None, licence: str | None
) -> ModelCardData:
    found = run.evaluations[shown] if run and (shown := _shown(run, scheme)) else None
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=each.benchmark,
            dataset_name=each.benchmark,
            metric_type=f"mean@{score.k}",
            metric_name=f"mean@{score.k}, 95% interval {100 * score.interval[0]:.1f} to {100 * score.interval[1]:.1f}",
            metric_value=round(100 * score.value, 1),
        )
        for each in (found.evaluations if found else ())
        for score in [each.score("mean@k")]
    ]
    ways = [tag for stage in _ended(run) for tag in _tags(stage)] if run else []
    hub_base = base if base and is_hub_id(base) else None
    return ModelCardData(
        base_model=hub_base,
        datasets=_hub_datasets(run) or None,
        eval_results=results or None,
        library_name="transformers",
        license=licence or "other",
        model_name=name if results else None,
        pipeline_tag="text-generation",
        tags=["polaris", "reasoning", "math", *dict.fromkeys(ways), *([scheme] if scheme else [])],
    )


def _shown(run: RunEvidence, scheme: str | None) -> str | None:
    """Return which evaluation is in the metadata; none of a quantised model, which was not what was measured."""
    return next((name for name in ("yarn", "final") if name in run.evaluations and not scheme), None)


def _hub_datasets(run: RunEvidence | None) -> list[str]:
    if run is None or run.recipe is None:
        return []
    names = [
        IMPORTERS[source.importer].hub_id if source.path is None and source.importer else source.path or ""
        for source in run.recipe.data.sources
    ] or [run.recipe.problems]
    names += [stage.traces.source for stage in _ended(run) if stage.traces and not stage.traces.is_own]
    return sorted({name.partition(":")[0] for name in names if is_hub_id(name)})


def _use_parts(name: str, inference: Inference, yarn: Mapping[str, Any]) -> list[Part]:
    sampling = f"temperature {inference.temperature:g}, top-k {inference.top_k or 'off'}, top-p {inference.top_p:g}"
    parts: list[Part] = [
        Text(
            f"The folder says how it is sampled ({sampling}), and vLLM and transformers read that: 'vllm serve {name}' "
            "needs no flag, nor does generate() of transformers."
        )
    ]
    if yarn:
        parts.append(
            Text(
                f"Answers may be longer than in training: YaRN with factor {yarn['factor']:g} over "
                f"{yarn['original_max_position_embeddings']:,} positions reads up to {inference.context:,} tokens, its "
                "attention temperature off (attention_factor 1.0). It holds for short answers too, which may be a "
                "little worse for it. With less memory give --max-model-len."
            )
        )
        # It multiplies by 1 + 0.1 ln(factor) and overwrites what its converter makes of attention_factor.
        taken_back = 1 / (1 + 0.1 * math.log(yarn["factor"]))
        parts.append(
            Text(
                "llama.cpp turns that temperature on whatever the folder says. Convert with 'llama-quantize "
                f"--override-kv ARCH.rope.scaling.attn_factor=float:{taken_back:.4f}', ARCH being the "
                "general.architecture of the GGUF file."
            )
        )
    return parts


def _score_parts(run: RunEvidence, scheme: str | None) -> list[Part]:
    parts = evaluation_parts(run)
    if hashes := protocol_hashes(run):
        parts.append(Text(f"Protocol (everything that can change a score), as a hash: {', '.join(hashes)}."))
    if shown := _shown(run, scheme):
        parts.append(
            Text(
                f"The scores in this card's metadata are the mean@k of the {EVALUATIONS[shown]}. The Hub's format has "
                "no field for intervals: they are in the names of the metrics there, and in the table here."
            )
        )
    if scheme:
        parts.insert(0, Warning("These scores are of the model before it was quantised."))
    return parts


def _training_parts(run: RunEvidence) -> list[Part]:
    parts: list[Part] = []
    if run.recipe:
        named = [source.path or source.importer or "" for source in run.recipe.data.sources] or [run.recipe.problems]
        parts.append(Text(f"Training problems come from {', '.join(map(public_name, named))}."))
    parts += [Text(line) for stage in _ended(run) for line in _lineage(stage)]
    said = "what was decided and why"
    rows = [(step.name, step.state, step.sentence) for step in recipe_steps(run)]
    return [*parts, Table(("step", "state", said), rows, words=("state", said))]


def _lineage(stage: StageEvidence) -> Iterator[str]:
    """Yield what a stage learned from besides problems: who wrote its traces, or taught it."""
    if traces := stage.traces:
        what = "right answers of the run's own profile" if traces.is_own else f"traces, {public_name(traces.source)}"
        writers = ", ".join(map(_with_licence, traces.learned.writers)) if traces.learned else ""
        yield f"Stage {stage.name} learned from {what}{f', written by {writers}' if writers else ''}."
    if table := stage.distillation:
        teacher = teacher_name(table) if table.is_served else _with_licence(table.teacher)
        yield f"Stage {stage.name} was taught by {teacher}, token by token."


def _with_licence(model: str) -> str:
    licence = stated_licence(model)
    return f"{public_name(model)} (licence: {licence})" if licence else public_name(model)


def _licence_part(base: str | None, licence: str | None) -> Part:
    of = public_name(base) if base else "the base model"
    if licence is None:
        return Warning(f"The licence of {of} is not known here, and holds for this model too: look it up before use.")
    return Text(f"{licence}, as {of}: this model was made from it.")
