"""What a stage learned from besides problems: traces and who wrote them, or a teacher.

Everything is said by names that hold on other machines, since a model's card says it too.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from polaris_train.recipe.sft import OWN_TRACES
from polaris_train.recipe.tables import Distillation
from polaris_train.report.files import Reader
from polaris_train.report.records import ChosenTraces, LearnedTraces
from polaris_train.run_folder import StageFolder

_HUB_ID = re.compile(r"(?!.*\.(jsonl?|parquet|csv|tsv)$)[\w.-]+/[\w.-]+(:[\w.-]+)?")
"""Nothing that is named like a file of data."""

_STAGE_PARTS = 2
"""Of ``STAGE/model``, which do not say the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesEvidence:
    """What is known about the traces of a stage."""

    source: str
    """The file or Hub id that they were given as."""

    is_own: bool
    """Whether the run has made them, of what its profile sampled."""

    num_written: int | None
    """Traces that the run has made; ``None`` where it did not, or not yet."""

    chosen: ChosenTraces | None
    """What became of the answers that they were chosen from; ``None`` where no counts are beside them."""

    learned: LearnedTraces | None
    """What became of them; ``None`` before the stage was prepared."""

    @property
    def num_traces(self) -> int | None:
        """Traces that there were, before the stage set any aside."""
        if self.chosen:
            return self.chosen.num_traces
        if self.num_written is not None or self.learned is None:
            return self.num_written
        return self.learned.num_traces + sum(self.learned.set_aside.values())


def read_traces(folder: StageFolder, source: str, reader: Reader) -> TracesEvidence:
    """Read what a stage of supervised fine-tuning learns from; what is damaged is noted and left out."""
    learned = reader.document(folder.sequences_made, LearnedTraces)
    beside = reader.document(folder.traces_counts, ChosenTraces)
    num_written = reader.count(folder.traces)
    return TracesEvidence(
        source=source,
        is_own=source == OWN_TRACES or num_written is not None,
        num_written=num_written,
        chosen=(learned.chosen if learned else None) or beside,
        learned=learned,
    )


def tell_traces(found: TracesEvidence) -> Iterator[str]:
    """Yield what traces there were and from what, who wrote them, and what became of them; nothing before that."""
    where = "the run's own profile" if found.is_own else public_name(found.source)
    if chosen := found.chosen:
        answers = "answers of the run's own profile" if found.is_own else "answers"
        given = "" if found.is_own else f" ({where})"
        yield (
            f"{chosen.num_traces:,} traces of {chosen.num_problems:,} problems, chosen from "
            f"{chosen.num_completions:,} {answers}{given}"
        )
        if chosen.left_out:
            yield f"left out: {_reasons(chosen.left_out)}"
    elif found.num_traces is not None:
        yield f"{found.num_traces:,} traces of {where}; how they were chosen is not recorded"
    if learned := found.learned:
        yield f"written by {_writers(learned)}" if learned.writers else "who wrote them is not recorded"
        yield (
            f"{learned.num_traces:,} can be learned from: {learned.num_tokens:,} tokens, of which "
            f"{learned.num_learned:,} are the assistant's"
        )
        if learned.set_aside:
            yield f"set aside: {_reasons(learned.set_aside)}"


def tell_teacher(table: Distillation) -> str:
    """Return who teaches, and whether rewards count beside that."""
    return f"taught by {teacher_name(table)} {'beside' if table.reward else 'without'} the rewards"


def teacher_name(table: Distillation) -> str:
    """Return what a teacher is called; the address of a server is nobody else's business."""
    return "a model on a server" if table.is_served else public_name(table.teacher)


def public_name(source: str) -> str:
    """Return a Hub id as it is, ``RUN/STAGE`` for the model of a stage, and the last name of anything else."""
    if is_hub_id(source):
        return source
    path = Path(source)
    is_stage = path == StageFolder(path.parent).model and len(path.parts) > _STAGE_PARTS
    return "/".join(path.parts[-3:-1]) if is_stage else path.name


def is_hub_id(source: str) -> bool:
    """Whether a model or a data set is named as the Hub names it, and is nothing of this machine."""
    return bool(_HUB_ID.fullmatch(source)) and not Path(source).exists()


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} ({count:,})" for reason, count in counts.items())


def _writers(learned: LearnedTraces) -> str:
    """Return who wrote traces, with how many where there are several or some do not say."""
    if list(learned.writers.values()) == [learned.num_traces]:
        return public_name(next(iter(learned.writers)))
    unknown = learned.num_traces - sum(learned.writers.values())
    named = [f"{public_name(writer)} ({count:,})" for writer, count in learned.writers.items()]
    return ", ".join([*named, *([f"not recorded ({unknown:,})"] if unknown else [])])
