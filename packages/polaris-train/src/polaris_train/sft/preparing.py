"""Preparing a stage of supervised fine-tuning: everything that can be checked without a model is checked here."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polaris_data import Problem, content_hash, read_problems, write_problems
from polaris_data.files import append_records, claim, write_json
from polaris_data.problems import count_rows, read_rows
from polaris_data.profile import recorded_counts
from polaris_rollout import local_folder, stop_token_ids

from polaris_train.errors import RecipeError, RunFolderError
from polaris_train.recipe import Recipe
from polaris_train.recipe.sft import OWN_TRACES, SftStage, Supervised
from polaris_train.resolved import FREE_FIELDS, ResolvedStage
from polaris_train.run_folder import RunFolder, StageFolder, partial_path
from polaris_train.sft.conversation import Conversations, UnusableTraceError
from polaris_train.sft.sequences import Made, Traces, write_sequences
from polaris_train.stage.evaluation_problems import HELD_OUT, evaluation_problems
from polaris_train.stage.launch import checked_start, refuse_missing_trackers

logger = logging.getLogger(__name__)

_SHOWN = 3
"""Places of traces that are named for each reason; all are in ``traces.set-aside.jsonl``."""


def prepare_sft(
    recipe: Recipe,
    stage: SftStage,
    run: Path,
    *,
    model: str | None = None,
    traces: str | None = None,
    held_out: str | None = None,
) -> Path:
    """Check a stage's inputs and write its folder's ``resolved.json`` and ``sequences.arrow``.

    Args:
        recipe: The whole recipe.
        stage: One of its stages.
        run: Run folder.
        model: Start from this model instead of the previous stage's.
        traces: Learn from these instead of the stage's.
        held_out: A file of problems that ``held-out`` in ``evaluate_on`` means; traces that ask one are set aside.

    Returns:
        The stage's folder.

    Raises:
        TrainError: If an input is wrong or the folder belongs to another run; nothing is overwritten.
    """
    refuse_missing_trackers(recipe)
    folder = RunFolder(run).stage(stage.name)
    start = checked_start(recipe, stage, folder.run, model=model)
    evaluated = _evaluated(recipe, stage, folder, held_out)
    learning = stage.supervised().model_copy(update={"traces": _given(traces or stage.traces, folder)})
    try:
        incoming, made = _make(learning.traces, start, stage, folder, evaluated.get(HELD_OUT, ()))
        found = Traces(incoming, num_validated=learning.validation_traces, seed=recipe.seed)
        steps = found.num_steps(epochs=learning.epochs, traces_per_step=learning.traces_per_step)
        values: dict[str, Any] = recipe.constants() | recipe.engine_tables()
        resolved = ResolvedStage(
            **values | _optimizer(learning, steps=steps),
            context=stage.context,
            temperature=stage.temperature,
            steps=steps,
            run=run.name,
            stage=stage.name,
            model=start,
            problems_sha256=made["sha256"],
            sft=learning,
            evaluation_hashes={name: content_hash(each) for name, each in evaluated.items()},
        )
        claim(folder.resolved, resolved.model_dump(mode="json"), free=FREE_FIELDS)
        for name, problems in evaluated.items():
            write_problems(folder.evaluation_problems(name), problems)
        if incoming != folder.sequences:
            incoming.replace(folder.sequences)
            write_json(folder.sequences_made, made)
    finally:
        partial_path(folder.sequences).unlink(missing_ok=True)
    return folder.path


def _optimizer(learning: Supervised, *, steps: int) -> dict[str, Any]:
    """Return how the learning rate changes in a stage of so many steps, in place of what the recipe says of others."""
    return {
        "learning_rate": learning.learning_rate,
        "lr_schedule": learning.lr_schedule,
        "lr_warmup_steps": int(learning.lr_warmup_share * steps),
        "lr_decay_steps": None if learning.lr_schedule == "constant" else steps,
        "lr_min_ratio": learning.lr_min_ratio,
    }


def _given(traces: str, folder: StageFolder) -> str:
    if traces != OWN_TRACES:
        return traces
    if not folder.traces.exists():
        raise RunFolderError(
            f"traces = \"{OWN_TRACES}\" means {folder.traces}, which does not exist; 'polaris run' makes it from the "
            "profile, and so does 'polaris-data traces'; or give a file with --traces"
        )
    return str(folder.traces)


def _evaluated(recipe: Recipe, stage: SftStage, folder: StageFolder, held_out: str | None) -> dict[str, list[Problem]]:
    """Return the problems of each evaluation by name, the same as in the stages of reinforcement learning."""
    if not recipe.evaluate_every and held_out is None:
        return {}
    chosen_here = held_out is None and HELD_OUT in recipe.evaluate_on
    every = read_problems(recipe.problems, limit=recipe.limit) if chosen_here else []
    earlier = [folder.run.stage(each.name) for each in recipe.stages[: recipe.stages.index(stage)]]
    found = evaluation_problems(recipe, every, earlier=earlier, held_out=held_out)
    if held_out is not None and HELD_OUT not in found:
        found[HELD_OUT] = read_problems(held_out)
    return found


def _make(
    traces: str, model: str, stage: SftStage, folder: StageFolder, held_out: Sequence[Problem]
) -> tuple[Path, dict[str, Any]]:
    """Return the file of the sequences, under another name where it had to be made, and what it was made from."""
    origin = {
        "traces": _digest(traces),
        "context": stage.context,
        "held_out": content_hash(list(held_out)),
        "tokenizer": _tokenizer_digest(model),
    }
    known = json.loads(folder.sequences_made.read_text()) if folder.sequences_made.exists() else {}
    if known.get("from") == origin and folder.sequences.exists():
        return folder.sequences, known
    incoming = partial_path(folder.sequences)
    incoming.parent.mkdir(parents=True, exist_ok=True)
    set_aside: list[dict[str, str]] = []
    made = write_sequences(
        _rows(traces, set_aside),
        _conversations(model),
        incoming,
        context=stage.context,
        held_out=[problem.question for problem in held_out],
        total=count_rows(traces),
        set_aside=set_aside,
    )
    _tell(traces, made, set_aside)
    folder.traces_set_aside.unlink(missing_ok=True)
    if set_aside:
        append_records(folder.traces_set_aside, set_aside)
    if not made.num_traces:
        raise RunFolderError(f"{traces}: nothing to learn from: {_reasons(set_aside)}")
    with incoming.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    # Kept with the stage, for their file may be elsewhere, and gone when the report is written.
    chosen = {"chosen": counts} if (counts := recorded_counts(Path(traces))) else {}
    return incoming, {"from": origin, **asdict(made), **chosen, "sha256": sha256}


def _rows(traces: str, set_aside: list[dict[str, str]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the place and the columns of each row that can be read."""
    columns: set[str] = set()
    any_has = False
    for row in read_rows(traces, split="train", revision=None, keep_broken=True):
        if row.defect is not None:
            set_aside.append({"place": row.place, "reason": row.defect})
            continue
        columns |= row.columns.keys()
        any_has |= "messages" in row.columns
        yield row.place, row.columns
    if columns and not any_has:
        raise RecipeError(
            f"{traces}: no row has 'messages', the turns of a conversation; the columns are {sorted(columns)}. Write "
            'each row as {"messages": [{"role": "user", "content": ...}, ...]}, or take polaris-data traces'
        )


def _conversations(model: str) -> Conversations:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, model_max_length=10**9)  # it warns beyond it
    try:
        return Conversations(tokenizer, stop_token_ids=stop_token_ids(model))
    except UnusableTraceError as error:
        raise RecipeError(f"{model}: {error}") from None


def _tell(traces: str, made: Made, set_aside: Sequence[Mapping[str, str]]) -> None:
    """Say what the traces became, and name those that are not used."""
    if made.num_traces:
        logger.warning(
            "%s: %d traces in %d sequences of %d tokens, %d of them to be learned",
            *(traces, made.num_traces, made.num_sequences, made.num_tokens, made.num_learned),
        )
    if set_aside:
        logger.warning("%d traces set aside: %s", len(set_aside), _reasons(set_aside))


def _reasons(set_aside: Sequence[Mapping[str, str]]) -> str:
    places: dict[str, list[str]] = {}
    for each in set_aside:
        places.setdefault(each["reason"], []).append(each["place"])
    found = sorted(places.items(), key=lambda each: -len(each[1]))
    return (
        "; ".join(
            f"{len(where)} ({', '.join(where[:_SHOWN])}{', ...' if len(where) > _SHOWN else ''}): {reason}"
            for reason, where in found
        )
        or "the file is empty"
    )


def _digest(traces: str) -> str:
    path = Path(traces)
    if not path.is_file():
        return traces
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokenizer_digest(model: str) -> str:
    """Return a fingerprint of all that says how text becomes tokens and where a turn ends."""
    digest = hashlib.sha256()
    folder = local_folder(model)
    for pattern in ("tokenizer*", "chat_template.jinja", "generation_config.json", "vocab.json", "merges.txt"):
        for path in sorted(folder.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
