"""From raw data sets to one file of problems: answers normalised, what cannot be used set aside with its reason.

Rows stream through; what stays in memory is an id and a hash for each problem, about 0.2 GB for a million of them.
Every row is kept, merged with an earlier one, or set aside: the counts add up. What is kept but looks wrong is listed,
as `polaris_data.problems.check` lists it.
"""

import hashlib
import json
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import check_output, claim_output, whole_file, whole_text, write_text
from polaris_data.files.progress import track
from polaris_data.problems import parts
from polaris_data.problems.answers import Reason, to_references
from polaris_data.problems.catalog import Importer, as_it_is
from polaris_data.problems.check import Finding, findings_path, look_at
from polaris_data.problems.columns import DEFAULT_COLUMNS, Columns, find
from polaris_data.problems.conversion import (
    AnswerFrom,
    Conversion,
    missing_column,
    source_name,
    take_fields,
    to_problem,
)
from polaris_data.problems.reading import to_json_line
from polaris_data.problems.rows import Row, count_rows, fingerprint, read_rows
from polaris_data.records import Problem

Ids = Literal["own", "content", "prefixed"]
"""Ids of the source, where it has any; from the content; of the source, with its name in front."""

NUM_ROWS_WITHOUT_COLUMN = 100
"""So many rows without a column for the question or the answer, and no usable one, are a source of other columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A row that is no problem to train on."""

    place: str
    """Where it stands: ``problems.jsonl:17``."""

    reason: str
    """A `Reason`."""

    question: Any
    """As it is there."""

    answer: Any
    """As it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportCounts:
    """What became of the rows: all of them are kept, merged or set aside."""

    num_rows: int
    num_kept: int
    num_merged: int
    """The same question with the same references and id as an earlier row."""

    set_aside: Mapping[str, int]
    """Rows for each reason."""
    findings: Mapping[str, int]
    """References and questions that are kept, for each thing that looks wrong with them."""

    num_left_out: int
    """Rows without the wanted values; not among ``num_rows``."""


@dataclass(slots=True)
class _Seen:
    """What is remembered of the problems so far."""

    contents: dict[str, int] = field(default_factory=dict[str, int])
    """For each id a hash of question and references."""
    also_from: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """For each id that came again, where from."""
    num_merged: int = 0
    first_unreadable: str = ""
    """Where a row is broken, and how."""


def set_aside_path(out: Path) -> Path:
    """Return where the rows are that were set aside: ``NAME.set-aside.jsonl`` beside the problems."""
    return out.with_name(f"{out.name}.set-aside.jsonl")


def import_problems(
    sources: Sequence[str],
    out: Path,
    *,
    layout: Columns | Importer = DEFAULT_COLUMNS,
    ids: Ids = "own",
    split: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    strict: bool = False,
    answer_from: AnswerFrom = "answer",
    join_parts: bool = False,
    where: Mapping[str, Sequence[str]] | None = None,
) -> ImportCounts:
    """Write the problems of one or several sources to one file, and what cannot be used to another.

    What is kept and looks wrong is listed in a third (`findings_path`).

    Args:
        sources: As `read_problems` takes them, ``synthetic`` excepted; with an importer none is its Hub data set.
        out: JSON lines to write; the rows set aside, if there are any, and the settings are written beside it.
        layout: Where the fields of a problem stand: columns, or the importer of a published data set, which brings
            its own columns, split and revision.
        ids: Where ids are from.
        split: Of folders and Hub data sets; ``None`` is the importer's, or ``train``.
        revision: Of Hub data sets; ``None`` is the importer's, or the newest.
        limit: Take the first so many rows of each source.
        strict: Refuse the sources at the first row that would be set aside.
        answer_from: ``answer`` takes it from a column of answers, and from a worked solution where there is none;
            ``solution`` always from the solution: its last box, what follows ``####`` or "the answer is".
        join_parts: Keep a question of several parts with an answer to each, as one reference in their order.
        where: Columns and the values that a row must have one of; others are left out.

    Raises:
        ProblemFileError: If a source cannot be read, has other columns or no problem at all, or two different
            problems have one id.
        OtherRunError: If the file belongs to a run with other settings.
        MissingExtraError: If ``datasets`` is needed and not installed.
    """
    importer = layout if isinstance(layout, Importer) else None
    if importer and not sources:
        sources, revision = [importer.hub_id], revision or importer.revision
    split = split or (importer.split if importer else "train")
    if not sources:
        raise ProblemFileError("no source; give a file, a folder or Hub id, or a ready importer")
    settings = {
        "command": "polaris-data import",
        "sources": [fingerprint(source, split=split, revision=revision) for source in sources],
        "importer": importer.hub_id if importer else None,
        "columns": asdict(layout.columns if isinstance(layout, Importer) else layout),
        "ids": ids,
        "limit": limit,
        "strict": strict,
        "answer_from": answer_from,
        "join_parts": join_parts,
    }
    if where:
        settings["where"] = {name: list(values) for name, values in where.items()}
    check_output(out, settings)
    left_out: Counter[str] = Counter()

    def read() -> Iterator[tuple[str, Problem | SetAside]]:
        for source in sources:
            conversion = _conversion(
                source, layout, ids=ids, revision=revision, answer_from=answer_from, join_parts=join_parts
            )
            rows = read_rows(source, split=split, revision=revision, keep_broken=True)
            rows = islice(_chosen(rows, source, where, left_out) if where else rows, limit)
            label = f"importing {conversion.label}"
            yield from _convert(track(rows, total=limit or count_rows(source), label=label), conversion)

    seen = _Seen()
    aside, listed = set_aside_path(out), findings_path(out)
    findings = Counter[str]()
    with whole_file(out) as temporary:
        with (
            whole_text(aside) as aside_file,
            whole_text(listed) as findings_file,
            temporary.open("w", encoding="utf-8") as kept_file,
        ):

            def list_finding(finding: Finding) -> None:
                findings[finding.finding] += 1
                findings_file.write(json.dumps(asdict(finding), ensure_ascii=False) + "\n")

            reasons = _write(read, kept_file, aside_file, seen, strict=strict, report=list_finding)
            if not seen.contents:
                raise ProblemFileError(
                    f"no problems in {', '.join(sources)}: {_describe(reasons, seen.first_unreadable)}"
                )
            kept_file.flush()
            if seen.also_from:
                _add_lineage(temporary, seen.also_from)
            claim_output(out, settings)
        if not reasons:
            aside.unlink()
        if not findings:
            listed.unlink()
    return ImportCounts(
        num_rows=len(seen.contents) + seen.num_merged + reasons.total(),
        num_kept=len(seen.contents),
        num_merged=seen.num_merged,
        set_aside=dict(reasons.most_common()),
        findings=dict(findings.most_common()),
        num_left_out=left_out.total(),
    )


def _chosen(
    rows: Iterable[Row], source: str, where: Mapping[str, Sequence[str]], left_out: Counter[str]
) -> Iterator[Row]:
    """Pass on the rows that have one of the wanted values in each of these columns, and count the others."""
    known: set[str] = set()
    for row in rows:
        values = {name: find(row.columns, name) for name in where}
        known |= {name for name, value in values.items() if value is not None}
        if row.defect or all(str(value) in where[name] for name, value in values.items()):
            yield row
        else:
            left_out[source] += 1
    if unknown := [name for name in where if name not in known]:
        raise ProblemFileError(f"{source} has no column {unknown[0]!r} to choose rows by; correct --where")


def _label(source: str, importer: Importer | None, revision: str | None) -> str:
    """Return what problems say where they are from."""
    name = source_name(source)
    if Path(source).exists():
        return f"{importer.hub_id} ({name})" if importer else name
    return f"{name}@{revision}" if revision else name


def _conversion(
    source: str,
    layout: Columns | Importer,
    *,
    ids: Ids,
    revision: str | None,
    answer_from: AnswerFrom,
    join_parts: bool,
) -> Conversion:
    importer = layout if isinstance(layout, Importer) else None
    find_answer = importer.answer if importer else as_it_is

    def references(value: Any, *, is_solution: bool) -> tuple[str, ...] | Reason:
        return to_references(find_answer(value), is_solution=is_solution)

    return Conversion(
        label=_label(source, importer, revision),
        columns=layout.columns if isinstance(layout, Importer) else layout,
        answer_from=answer_from,
        references=references,
        stored=to_references,
        heeds_remarks=True,
        check=parts.join_parts if join_parts else parts.refuse_parts,
        own_ids=ids != "content",
        prefix=f"{Path(source).stem}/" if ids == "prefixed" else "",
    )


def _convert(rows: Iterable[Row], conversion: Conversion) -> Iterator[tuple[str, Problem | SetAside]]:
    """Turn rows into problems, each with its place; refuse a source that has other columns."""
    missing, is_usable = "", False
    for number, row in enumerate(rows, start=1):
        fields = take_fields(row.columns, conversion.columns, answer_from=conversion.answer_from)
        problem = Reason.UNREADABLE if row.defect else to_problem(fields, conversion)
        if isinstance(problem, Problem):
            is_usable = True
            yield row.place, problem
            continue
        if not is_usable:
            missing = missing or _missing(row, conversion.columns)
            if missing and number >= NUM_ROWS_WITHOUT_COLUMN:
                break
        answer = row.defect or fields.references
        yield row.place, SetAside(place=row.place, reason=str(problem), question=fields.question, answer=answer)
    if missing and not is_usable:
        raise ProblemFileError(f"{missing}; say which is which with --columns question=NAME,references=NAME,id=NAME")


def _missing(row: Row, columns: Columns) -> str:
    return missing_column(row, "question", columns) or missing_column(row, "reference", columns) or ""


def _write(
    read: Callable[[], Iterator[tuple[str, Problem | SetAside]]],
    kept_file: TextIO,
    aside_file: TextIO,
    seen: _Seen,
    *,
    strict: bool,
    report: Callable[[Finding], None],
) -> Counter[str]:
    """Write every row to one of the files, or merge it with an earlier one; count the reasons."""
    reasons: Counter[str] = Counter()
    for place, row in read():
        if isinstance(row, SetAside):
            if strict:
                raise ProblemFileError(
                    f"{place}: {row.reason}: the answer is {reprlib.repr(row.answer)}; correct it, or leave out "
                    "--strict to set such rows aside"
                )
            reasons[row.reason] += 1
            if row.reason == Reason.UNREADABLE and not seen.first_unreadable:
                seen.first_unreadable = f"{place}: {row.answer}"
            aside_file.write(json.dumps(asdict(row), ensure_ascii=False, default=str) + "\n")
        elif _is_new(row, seen):
            kept_file.write(to_json_line(row))
            for finding in look_at(row):
                report(finding)
        elif seen.contents[row.problem_id] != _hash(row):
            earlier = next(where for where, one in read() if getattr(one, "problem_id", None) == row.problem_id)
            raise ProblemFileError(
                f"two different problems have the id {row.problem_id!r}, at {earlier} and {place}; make ids from the "
                "content with --ids content, or put the name of the source before them with --ids prefixed"
            )
        else:
            seen.num_merged += 1
            seen.also_from.setdefault(row.problem_id, {})[row.source] = None
    return reasons


def _is_new(problem: Problem, seen: _Seen) -> bool:
    if problem.problem_id in seen.contents:
        return False
    seen.contents[problem.problem_id] = _hash(problem)
    return True


def _hash(problem: Problem) -> int:
    content = repr((problem.question, problem.references)).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def _add_lineage(path: Path, also_from: Mapping[str, Mapping[str, None]]) -> None:
    """Add to each problem that came again the other sources, as ``also_from`` in its ``extra``."""

    def lines() -> Iterator[str]:
        with path.open(encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                others = [name for name in also_from.get(record["problem_id"], ()) if name != record["source"]]
                if others:
                    record["extra"]["also_from"] = list(dict.fromkeys([*record["extra"].get("also_from", []), *others]))
                    line = json.dumps(record, ensure_ascii=False) + "\n"
                yield line

    write_text(path, lines())


def _describe(reasons: Counter[str], first_unreadable: str) -> str:
    counts = ", ".join(f"{count:,} set aside ({reason})" for reason, count in reasons.most_common())
    return (counts + (f"; {first_unreadable}" if first_unreadable else "")) or "every source is empty"
