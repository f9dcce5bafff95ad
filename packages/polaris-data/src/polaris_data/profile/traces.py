"""Traces for supervised fine-tuning: correct answers that were sampled, as conversations.

Needs the extra ``profile``. The store is read twice, first to grade and choose, then to write what was chosen, so that
one group is in memory however long the completions are.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from polaris_reward import GradeMany, Outcome, boxed_grader

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import check_output, claim_output, to_lines, whole_file, write_json, write_text
from polaris_data.files.lock import locked_output
from polaris_data.files.progress import track
from polaris_data.problems.reading import content_hash
from polaris_data.problems.source import Source
from polaris_data.profile.trace_answers import Answer, Place, provenance, read_answers
from polaris_data.records import PROMPT_SUFFIX, Problem, to_prompt

Choice = Literal["all", "shortest", "one"]
"""Which correct completions of a problem are written: every one, those of fewest tokens, or by a hash."""

_GRADED_AT_ONCE = 256

_BUCKETS = 10
"""Equal parts of the answers by length, within which `TraceChoice.learning_value` ranks them."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceChoice:
    """Which correct answers become traces; everything else is counted by its reason."""

    choose: Choice = "all"
    """Which of a problem's."""

    per_problem: int | None = None
    """So many of a problem's at most; by default one with ``shortest`` and ``one``, else all."""

    min_tokens: int = 0
    """Shorter answers are left out."""

    max_tokens: int | None = None
    """Longer answers are left out."""

    learning_value: float | None = None
    """Only this share of the answers: of those of about the same length, a tenth of all, the ones whose tokens the
    sampler found least likely on average. What a model says anyway teaches it little; and were lengths not compared
    with their like, short answers would win, since what is unlikely mostly stands at the beginning (VibeThinker-3B)."""

    seed: int = 0
    """Of the hash that chooses ``one``."""

    @property
    def most(self) -> int | None:
        """Traces of one problem, at most."""
        return self.per_problem or (None if self.choose == "all" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceCounts:
    """What became of the completions of a store."""

    num_completions: int
    """In the store."""

    num_traces: int
    """Written."""

    num_problems: int
    """With a trace."""

    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Completions that were not written, by reason; with the traces they add up to all."""

    median_tokens: float = 0.0
    """Of the traces."""

    median_characters: float = 0.0
    """Of the traces."""

    thinking_share: float = 0.0
    """Share of the traces with a section of thoughts that ends."""


class _Candidate(NamedTuple):
    num_tokens: int
    num_characters: int
    surprise: float
    thinks: bool


def trace_problems(
    source: Source, store: Path, out: Path, choice: TraceChoice | None = None, *, suffix: str = PROMPT_SUFFIX
) -> TraceCounts:
    """Write the traces of a problem set, graded by polaris-reward, and beside them the settings and the counts.

    Args:
        source: The set.
        store: As for `write_traces`.
        out: As there.
        choice: As there.
        suffix: As there.

    Raises:
        OtherRunError: If the file belongs to a run with other settings.
        ProblemFileError: As there, or if the problems cannot be read.
        StoreError: As there.
    """
    problems, choice = source.read(), choice or TraceChoice()
    settings = {
        "command": "polaris-data traces",
        "problems": content_hash(problems),
        "num_problems": len(problems),
        "store": str(store),
        "choose": choice.choose,
        "seed": choice.seed,
    } | {name: value for name in _LATER if (value := getattr(choice, name))}
    settings |= {} if suffix == PROMPT_SUFFIX else {"suffix": suffix}
    check_output(out, settings)
    with locked_output(out), boxed_grader() as grader, whole_file(out) as whole:
        counts = write_traces(problems, store, whole, grader.grade_many, choice, suffix=suffix, form=out.suffix)
        claim_output(out, settings)
        write_json(counts_path(out), asdict(counts))
    return counts


def counts_path(out: Path) -> Path:
    """Return where it is said what became of the completions that traces were chosen from: ``NAME.counts.json``."""
    return out.with_name(f"{out.name}.counts.json")


def recorded_counts(out: Path) -> dict[str, Any]:
    """Return the fields of the `TraceCounts` beside a file of traces; none without a record.

    Raises:
        ProblemFileError: If the record is damaged.
    """
    path = counts_path(out)
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ProblemFileError(f"{path} is damaged ({error}); remove it, or make the traces again") from error


_LATER = ("per_problem", "min_tokens", "max_tokens", "learning_value")
"""Settings that are off by default and are then not recorded."""


def write_traces(
    problems: Sequence[Problem],
    store: Path,
    out: Path,
    grade_many: GradeMany,
    choice: TraceChoice | None = None,
    *,
    suffix: str = PROMPT_SUFFIX,
    form: str = "",
) -> TraceCounts:
    """Write the correct completions of a store in the order in which they finished.

    A line has ``messages`` (the question as it was asked, and the answer), ``problem_id``, ``question`` (without the
    suffix), ``response``, ``num_tokens``, ``references``, ``surprise`` (nats a token), and where the answer comes from:
    ``model``, ``weights_version``, ``sampling``. Completions that the token budget ended are left out, correct or not:
    they would teach not to end. So are those to a prompt with a hint, which nobody will ask again, and an answer that
    says the same, word for word, as an earlier one to its problem.

    Args:
        problems: With distinct ids; completions of others are left out.
        store: See `polaris_data.profile.trace_answers.read_answers`.
        out: File to write; it appears whole.
        grade_many: Grades the completions; what a stage of training has graded is not graded again.
        choice: Which of a problem's; by default all.
        suffix: Appended to every question, the same as in training.
        form: ``.parquet`` for a parquet file, otherwise JSON lines.

    Raises:
        ProblemFileError: If no completion is left, or nobody knows which had a hint.
        StoreError: If the store is missing or damaged.
    """
    choice = choice or TraceChoice()
    by_id = {problem.problem_id: problem for problem in problems}
    left_out, candidates = _grade(store, by_id, grade_many, choice)
    num_read = left_out.total() + len(candidates)
    candidates = _worth_learning(candidates, choice, left_out)
    chosen = _chosen(candidates, choice, left_out)
    if not chosen:
        raise ProblemFileError(f"{store} holds no completion to learn from: {_describe(left_out)}")
    _write(out, _to_rows(store, by_id, chosen, suffix), form=form)
    kept = [candidates[place] for place in chosen]
    return TraceCounts(
        num_completions=num_read,
        num_traces=len(chosen),
        num_problems=len({place.problem_id for place in chosen}),
        left_out={reason: count for reason, count in left_out.most_common() if count},
        median_tokens=median(each.num_tokens for each in kept),
        median_characters=median(each.num_characters for each in kept),
        thinking_share=sum(each.thinks for each in kept) / len(kept),
    )


def _grade(
    store: Path, problems: Mapping[str, Problem], grade_many: GradeMany, choice: TraceChoice
) -> tuple[Counter[str], dict[Place, _Candidate]]:
    """Count what cannot be a trace by reason, and return everything that can."""
    left_out, candidates = Counter[str](), dict[Place, _Candidate]()
    said: set[tuple[str, bytes]] = set()
    answers = iter(track(read_answers(store), total=None, label="grading completions"))
    while batch := list(islice(answers, _GRADED_AT_ONCE)):
        usable = [each for each in batch if each.place.problem_id in problems]
        left_out["not among the problems"] += len(batch) - len(usable)
        for answer, outcome in zip(usable, _outcomes(usable, problems, grade_many), strict=True):
            reason = _reason(answer, outcome, choice)
            text = answer.place.problem_id, hashlib.blake2b(" ".join(answer.text.split()).encode()).digest()
            if reason is None and text in said:
                reason = "said before, word for word"
            if reason is not None:
                left_out[reason] += 1
                continue
            said.add(text)
            candidates[answer.place] = _Candidate(
                len(answer.completion.token_ids), len(answer.text), answer.surprise, "</think>" in answer.text
            )
    return left_out, candidates


def _outcomes(answers: Sequence[Answer], problems: Mapping[str, Problem], grade_many: GradeMany) -> Iterator[Outcome]:
    """Yield how each answer was graded, or is graded now where the store does not say."""
    open_ones = [each for each in answers if each.outcome is None]
    grades = iter(
        grade_many([(each.text, problems[each.place.problem_id].references) for each in open_ones]) if open_ones else ()
    )
    for each in answers:
        yield next(grades).outcome if each.outcome is None else each.outcome


def _reason(answer: Answer, outcome: Outcome, choice: TraceChoice) -> str | None:
    """Return why an answer cannot be a trace."""
    num_tokens = len(answer.completion.token_ids)
    if answer.hinted:
        return "asked with a hint"
    if answer.completion.finish_reason == "length":
        return "truncated"
    if outcome is not Outcome.CORRECT:
        return str(outcome)
    if num_tokens < choice.min_tokens:
        return f"shorter than {choice.min_tokens} tokens"
    if choice.max_tokens is not None and num_tokens > choice.max_tokens:
        return f"longer than {choice.max_tokens} tokens"
    return None


def _worth_learning(
    candidates: Mapping[Place, _Candidate], choice: TraceChoice, left_out: Counter[str]
) -> dict[Place, _Candidate]:
    """Return the answers of the highest learning value; see `TraceChoice.learning_value`."""
    if choice.learning_value is None:
        return dict(candidates)
    by_length = sorted(candidates, key=lambda place: (candidates[place].num_tokens, place))
    ends = [len(by_length) * part // _BUCKETS for part in range(_BUCKETS + 1)]
    kept: set[Place] = set()
    for start, end in pairwise(ends):
        ranked = sorted(by_length[start:end], key=lambda place: (-candidates[place].surprise, place))
        kept.update(ranked[: round(choice.learning_value * len(ranked))])
    left_out["of lower learning value"] += len(candidates) - len(kept)
    return {place: each for place, each in candidates.items() if place in kept}


def _chosen(candidates: Mapping[Place, _Candidate], choice: TraceChoice, left_out: Counter[str]) -> set[Place]:
    """Return which of each problem's answers are written."""
    by_problem = defaultdict[str, list[Place]](list)
    for place in candidates:
        by_problem[place.problem_id].append(place)
    chosen: set[Place] = set()
    for places in by_problem.values():
        if choice.choose == "shortest":  # of equals the first, wherever the store has it
            places.sort(key=lambda place: (candidates[place].num_tokens, place))
        else:
            places.sort(key=lambda place: _hash(place, choice.seed))
        chosen.update(places[: choice.most])
    left_out["another of the problem was chosen"] = len(candidates) - len(chosen)
    return chosen


def _hash(place: Place, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{place.problem_id}\0{place.sample}".encode(), digest_size=8).digest()


def _to_rows(store: Path, problems: Mapping[str, Problem], chosen: set[Place], suffix: str) -> Iterator[dict[str, Any]]:
    for answer in read_answers(store):
        if answer.place not in chosen:
            continue
        problem = problems[answer.place.problem_id]
        yield {
            "messages": [
                {"role": "user", "content": to_prompt(problem, suffix=suffix)},
                {"role": "assistant", "content": answer.text},
            ],
            "problem_id": problem.problem_id,
            "question": problem.question,
            "response": answer.completion.text,
            "num_tokens": len(answer.completion.token_ids),
            "references": list(problem.references),
            "surprise": answer.surprise,
            **provenance(answer),
        }


def _write(out: Path, rows: Iterator[dict[str, Any]], *, form: str) -> None:
    if form != ".parquet":
        write_text(out, to_lines(rows))
        return
    with pq.ParquetWriter(out, _SCHEMA, compression="zstd") as file:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            file.write_table(pa.Table.from_pylist(batch, schema=_SCHEMA))


_SCHEMA = pa.schema(
    {
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "problem_id": pa.string(),
        "question": pa.string(),
        "response": pa.string(),
        "num_tokens": pa.int64(),
        "references": pa.list_(pa.string()),
        "surprise": pa.float64(),
        "model": pa.string(),
        "weights_version": pa.string(),
        "sampling": pa.string(),
    }
)


def _describe(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count) or "it is empty"
