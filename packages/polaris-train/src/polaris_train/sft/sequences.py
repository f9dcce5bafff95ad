"""What a stage of supervised fine-tuning learns from, on disk: made once, read a few traces at a time."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
from polaris_data.files import track
from polaris_data.problems import bare_question
from polaris_data.profile import trace_writer
from polaris_rollout import derive_seed

from polaris_train.model.packing import TrainingSequence
from polaris_train.sft.conversation import Conversations, Learned, UnusableTraceError

_SCHEMA = pa.schema(
    {
        "trace": pa.int64(),
        "question": pa.int64(),  # a hash: traces of one question are learned from or validated on together
        "token_ids": pa.list_(pa.int32()),
        "starts": pa.list_(pa.int32()),
        "ends": pa.list_(pa.int32()),
    }
)

_ROWS_AT_ONCE = 256

_MOST_VALIDATED = 10
"""One trace in so many is set apart for validation, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What became of the traces of a file."""

    num_traces: int
    """That are learned from or validated on."""

    num_sequences: int
    """That they became: more than one where the template changes what was said before."""

    num_tokens: int
    """That the model reads."""

    num_learned: int
    """Of these, the assistant's."""

    set_aside: Mapping[str, int] = field(default_factory=dict[str, int])
    """Traces that are not used, by reason."""

    writers: Mapping[str, int] = field(default_factory=dict[str, int])
    """Traces by who wrote them, where they say so; see `polaris_data.profile.trace_writer`."""


def write_sequences(
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    conversations: Conversations,
    out: Path,
    *,
    context: int,
    held_out: Iterable[str] = (),
    total: int | None = None,
    set_aside: list[dict[str, str]] | None = None,
) -> Made:
    """Write the sequences of traces.

    Args:
        rows: Where each trace stands, and its columns.
        conversations: Of the model that learns from them.
        out: Written as Arrow IPC; see `Traces`.
        context: Traces with a longer sequence, in tokens, are set aside: a cut one would teach not to end.
        held_out: Questions that must not be learned from.
        total: How many rows there are, if that is known.
        set_aside: Is given every trace that is not used: ``place`` and ``reason``.
    """
    known = {wording(question) for question in held_out}
    reasons, writers = Counter[str](), Counter[str]()
    counts = Counter[str]()
    with pa.OSFile(str(out), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        batch: list[dict[str, Any]] = []
        for place, columns in track(rows, total=total, label="encoding traces"):
            try:
                learned = _usable(columns.get("messages"), conversations, context=context, held_out=known)
            except UnusableTraceError as error:
                reasons[str(error)] += 1
                if set_aside is not None:
                    set_aside.append({"place": place, "reason": str(error)})
                continue
            batch += [
                {
                    "trace": counts["traces"],
                    "question": _question_hash(columns["messages"]),
                    "token_ids": each.token_ids,
                    "starts": [start for start, _ in each.spans],
                    "ends": [end for _, end in each.spans],
                }
                for each in learned
            ]
            counts["traces"] += 1
            if (who := trace_writer(columns)) is not None:
                writers[who] += 1
            counts["sequences"] += len(learned)
            counts["tokens"] += sum(len(each.token_ids) for each in learned)
            counts["learned"] += sum(end - start for each in learned for start, end in each.spans)
            if len(batch) >= _ROWS_AT_ONCE:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=_SCHEMA))
                batch = []
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=_SCHEMA))
    return Made(
        num_traces=counts["traces"],
        num_sequences=counts["sequences"],
        num_tokens=counts["tokens"],
        num_learned=counts["learned"],
        set_aside=dict(reasons.most_common()),
        writers=dict(writers.most_common()),
    )


def _usable(messages: Any, conversations: Conversations, *, context: int, held_out: set[str]) -> list[Learned]:
    learned = conversations.learn(messages)
    if any(len(each.token_ids) > context for each in learned):
        raise UnusableTraceError(f"longer than context = {context} tokens")
    if any(wording(turn.get("content") or "") in held_out for turn in messages if turn["role"] == "user"):
        raise UnusableTraceError("asks a held-out problem, which nothing may be trained on")
    return learned


def wording(question: str) -> str:
    """Return a question without requests for a form of the answer, its spaces made one."""
    return " ".join(bare_question(question).split())


def _question_hash(messages: Sequence[Mapping[str, Any]]) -> int:
    asked = next((turn.get("content") or "" for turn in messages if turn["role"] != "system"), "")
    return int.from_bytes(blake2b(wording(asked).encode(), digest_size=8).digest(), "big", signed=True)


class Traces:
    """The traces of a stage: which are learned from in which step, and which are validated on.

    Attributes:
        learned: Numbers of the traces that are learned from.
        validated: Numbers of the others.
    """

    def __init__(self, path: Path, *, num_validated: int, seed: int) -> None:
        """Open what `write_sequences` wrote; the tokens stay on the disk.

        Args:
            path: The file.
            num_validated: Traces that are not learned from, at least as many as are whole questions, at most a tenth.
            seed: Of the choice of these and of the order of the others.
        """
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._seed = seed
        rows: dict[int, list[int]] = {}
        questions: dict[int, dict[int, None]] = {}
        columns = (self._table[name].to_pylist() for name in ("trace", "question"))
        for row, (trace, question) in enumerate(zip(*columns, strict=True)):
            rows.setdefault(trace, []).append(row)
            questions.setdefault(question, {})[trace] = None
        self._rows = rows
        most = min(num_validated, len(rows) // _MOST_VALIDATED)
        chosen: list[int] = []
        for question in sorted(questions, key=lambda each: derive_seed(seed, "validation", each)):
            if len(chosen) + len(questions[question]) <= most:
                chosen += questions[question]
        self.validated = sorted(chosen)
        self.learned = sorted(rows.keys() - set(chosen))

    def num_steps(self, *, epochs: int, traces_per_step: int) -> int:
        """Return the steps in which every trace is learned from so many times."""
        return -(-epochs * len(self.learned) // traces_per_step)

    def draw(self, step: int, *, epochs: int, traces_per_step: int) -> list[int]:
        """Return the traces of a step, counted from 1.

        Epochs follow each other without a gap, each in an order of its own; only the last step may have fewer. A
        function of the step alone, so a stage that is continued goes on in the middle of an epoch.
        """
        places = range((step - 1) * traces_per_step, min(step * traces_per_step, epochs * len(self.learned)))
        orders = {epoch: self._order(epoch) for epoch in {place // len(self.learned) for place in places}}
        return [orders[place // len(self.learned)][place % len(self.learned)] for place in places]

    def _order(self, epoch: int) -> list[int]:
        order = list(self.learned)
        random.Random(derive_seed(self._seed, "traces", epoch)).shuffle(order)
        return order

    def sequences(self, traces: Iterable[int]) -> list[TrainingSequence]:
        """Return the sequences of traces, each token of the assistant with the weight 1 and all others with 0."""
        return [_sequence(row) for trace in traces for row in self._read(self._rows[trace])]

    def _read(self, rows: Iterable[int]) -> Iterator[dict[str, Any]]:
        for row in rows:
            yield from self._table.slice(row, 1).to_pylist()


def _sequence(row: Mapping[str, Any]) -> TrainingSequence:
    ids, spans = tuple(row["token_ids"]), list(zip(row["starts"], row["ends"], strict=True))
    first = spans[0][0]
    weight: float | tuple[float, ...] = 1.0
    if len(spans) > 1:
        weights = [0.0] * (len(ids) - first)
        for start, end in spans:
            weights[start - first : end - first] = [1.0] * (end - start)
        weight = tuple(weights)
    return TrainingSequence(prompt_token_ids=ids[:first], token_ids=ids[first:], weight=weight)


def num_learned(sequences: Iterable[TrainingSequence]) -> int:
    """Return the tokens that are learned: those with a weight."""
    return sum(
        sum(value > 0 for value in each.weight) if isinstance(each.weight, tuple) else len(each.token_ids)
        for each in sequences
    )


def with_equal_weights(sequences: Sequence[TrainingSequence]) -> list[TrainingSequence]:
    """Return the sequences of an optimizer step with weights whose sum is 1: each learned token counts the same.

    The denominator is that of the whole step, so it depends neither on micro-batches nor on ranks.
    """
    total = num_learned(sequences)
    return [
        replace(
            each,
            weight=tuple(value / total for value in each.weight) if isinstance(each.weight, tuple) else 1 / total,
        )
        for each in sequences
    ]
