"""The history of one problem: everything that the files of a run or a data folder say about it.

Files are told apart by what their lines hold, not by their names, so reports that other commands write are found too:
any line of JSON that names the problem under ``problem_id``, or as one of its ``members``, belongs to the history.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import recorded_settings
from polaris_data.files.progress import track
from polaris_data.selection.visits import is_visit_log, read_visits

Kind = Literal["problem", "cluster", "report", "profile", "decision", "selected", "visits"]

_ORDER: tuple[Kind, ...] = ("problem", "cluster", "report", "profile", "decision", "selected", "visits")
"""In which the steps are taken, inside a folder."""

_IN_THIS_SET = ("in this set",)

_SPARKS = "▁▂▃▄▅▆▇█"
_NUM_VISITS = 24
"""Latest visits that are drawn."""

_MAX_TEXT = 160
"""Characters of a value that are shown."""

_MAX_CANDIDATES = 50_000
"""Ids that a mistyped one is compared with."""

_ID = re.compile(rb'"(?:problem_id|id|unique_id)": ?("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """What one file says about a problem."""

    path: Path
    """The file."""

    kind: Kind
    """What the file holds."""

    lines: tuple[str, ...]
    """Sentences; none when it is a set of problems that lacks this one."""


def tell_history(problem_id: str, paths: Iterable[Path]) -> list[Chapter]:
    """Collect what is known about a problem, in the order of the recipe's steps.

    Args:
        problem_id: Of any problem set in the folders.
        paths: Folders, searched with all that they contain, or files of JSON lines or ``decisions.json``.

    Raises:
        ProblemFileError: If a path is missing, or no file names the problem; the closest ids are named.
    """
    paths = list(paths)
    files = sorted(_files(paths))
    chapters = [_read_chapter(path, problem_id) for path in track(files, total=len(files), label="reading files")]
    known = [chapter for chapter in chapters if chapter is not None]
    if not any(chapter.lines for chapter in known):
        raise ProblemFileError(_unknown(problem_id, files, paths))
    return _without_repeats(sorted(known, key=_position))


def sparkline(accuracies: Iterable[float]) -> str:
    """Draw accuracies from 0 to 1 as one character each."""
    return "".join(_SPARKS[round(accuracy * (len(_SPARKS) - 1))] for accuracy in accuracies)


def _files(paths: Iterable[Path]) -> set[Path]:
    files: set[Path] = set()
    for path in paths:
        if path.is_dir():
            files |= {each for each in path.rglob("*.jsonl") if each.is_file()}
            files |= set(path.rglob("decisions.json"))
        elif path.is_file():
            files.add(path)
        else:
            raise ProblemFileError(f"no file or folder {str(path)!r}; check the path")
    return files


def _read_chapter(path: Path, problem_id: str) -> Chapter | None:
    """Return what a file says; ``None`` if it says nothing and is no problem set."""
    records = list(_records(path, problem_id))
    if records:
        kind = _kind(path, records[0])
        return Chapter(path=path, kind=kind, lines=tuple(_DESCRIBE[kind](path, records, problem_id)))
    with path.open("rb") as file:
        is_problem_set = (first := _parse(next(file, b""))) is not None and "question" in first
    return Chapter(path=path, kind="selected", lines=()) if is_problem_set else None


def _records(path: Path, problem_id: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of JSON that name the problem; a list in a JSON document has one item a line."""
    needles = {problem_id.encode(), json.dumps(problem_id)[1:-1].encode()}
    with path.open("rb") as file:
        for line in file:
            if any(needle in line for needle in needles):
                record = _parse(line)
                if record is not None and problem_id in _ids_of(record):
                    yield record


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.strip().rstrip(b","))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _ids_of(record: Mapping[str, Any]) -> set[str]:
    """Return the ids that a record is about."""
    members = record.get("members")
    ids = [record.get(column) for column in ("problem_id", "id", "unique_id")]
    if isinstance(members, list):
        ids.extend(member.get("problem_id") if isinstance(member, dict) else member for member in members)
    if is_visit_log(record) and isinstance(record.get("index"), list):
        ids.extend(record["index"])
    return {str(each) for each in ids if isinstance(each, str | int)}


def _kind(path: Path, record: Mapping[str, Any]) -> Kind:
    if is_visit_log(record):
        return "visits"
    if "members" in record:
        return "cluster"
    if {"kept", "reason"} <= record.keys():
        return "decision"
    if {"num_samples", "num_correct"} <= record.keys():
        return "profile"
    if record.keys() & {"references", "answer", "answers"} and record.keys() & {"question", "problem", "prompt"}:
        return "selected" if path.stem == "selected" else "problem"
    return "report"


def _position(chapter: Chapter) -> tuple[object, ...]:
    """Sort ``data`` before the stages, stage 2 before stage 10, and inside a folder by the order of the steps."""
    folder = str(chapter.path.parent)
    numbers = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", folder)]
    return (chapter.path.parent.name != "data", numbers, _ORDER.index(chapter.kind), chapter.path.name)


def _without_repeats(chapters: Iterable[Chapter]) -> list[Chapter]:
    """Let a problem set that holds what an earlier one showed say only that."""
    shown: set[tuple[str, ...]] = set()
    result: list[Chapter] = []
    for chapter in chapters:
        repeats = chapter.kind == "problem" and chapter.lines in shown
        result.append(replace(chapter, lines=_IN_THIS_SET) if repeats else chapter)
        shown.add(chapter.lines)
    return result


def _problem_lines(path: Path, records: Sequence[Mapping[str, Any]], problem_id: str) -> Iterator[str]:
    for record in records:
        yield f"source {_short(record.get('source') or '(not recorded)')}"
        yield f"question: {_short(next(record[name] for name in ('question', 'problem', 'prompt') if name in record))}"
        yield f"references: {_short(record.get('references', record.get('answer', record.get('answers'))))}"
        extra = record.get("extra")
        for name, value in extra.items() if isinstance(extra, dict) else ():
            yield f"{name}: {_short(value)}"


def _selected_lines(path: Path, records: Sequence[Mapping[str, Any]], problem_id: str) -> Iterator[str]:
    yield from _IN_THIS_SET


def _cluster_lines(path: Path, records: Sequence[Mapping[str, Any]], problem_id: str) -> Iterator[str]:
    for record in records:
        kept = record.get("kept")
        role = "kept, it stands for" if kept == problem_id else f"a duplicate of {kept!r}, one of"
        yield f"{role} {len(record['members'])} that are the same problem"
        for member in record["members"]:
            named = member if isinstance(member, dict) else {"problem_id": member}
            yield "  " + _fields(named)
        yield from _rest(record, {"members", "kept"})


def _report_lines(path: Path, records: Sequence[Mapping[str, Any]], problem_id: str) -> Iterator[str]:
    for record in records:
        yield from _rest(record, {"problem_id"})


def _profile_lines(path: Path, records: Sequence[Mapping[str, Any]], problem_id: str) -> Iterator[str]:
    settings = recorded_settings(path)
    measured = {name: settings[name] for name in ("model", "temperature", "context", "seed") if name in settings}
    for record in records:
        counts = {name: record.get(name) for name in ("num_truncated", "mean_tokens")}
        yield f"solved {record['num_correct']} of {record['num_samples']}, " + _fields(counts)
        if measured:
            yield "with " + _fields(measured)


def _decision_lines(path: Path, records: Sequence[Mapping[str, Any]], problem_id: str) -> Iterator[str]:
    for record in records:
        yield f"{'kept' if record['kept'] else 'DROPPED'}: {record['reason']}"


def _visit_lines(path: Path, records: Sequence[Mapping[str, Any]], problem_id: str) -> Iterator[str]:
    visits = [visit for visit in read_visits([path]).visits if visit.problem_id == problem_id]
    if not visits:
        yield "in a line that cannot be used"
        return
    correct, samples = sum(visit.num_correct for visit in visits), sum(visit.num_samples for visit in visits)
    latest = visits[-1]
    num_hinted = sum(visit.hinted for visit in visits)
    hinted = f"; {num_hinted} with a hint in the prompt" if num_hinted else ""
    yield (
        f"{len(visits)} visits, {correct} of {samples} correct ({correct / samples:.1%}), "
        f"latest {latest.num_correct} of {latest.num_samples}{hinted}"
    )
    shown = visits[-_NUM_VISITS:]
    yield (
        f"{sparkline(visit.num_correct / visit.num_samples for visit in shown)}  "
        f"steps {', '.join(str(visit.step) for visit in shown)}"
    )


_DESCRIBE = {
    "problem": _problem_lines,
    "selected": _selected_lines,
    "cluster": _cluster_lines,
    "report": _report_lines,
    "profile": _profile_lines,
    "decision": _decision_lines,
    "visits": _visit_lines,
}


def _rest(record: Mapping[str, Any], shown: set[str]) -> Iterator[str]:
    for name, value in record.items():
        if name not in shown:
            yield f"{name}: {_short(value)}"


def _fields(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in record.items() if value is not None)


def _short(value: object) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def _unknown(problem_id: str, files: Sequence[Path], paths: Sequence[Path]) -> str:
    places = ", ".join(repr(str(path)) for path in paths)
    if not files:
        return f"no .jsonl file and no decisions.json in {places}; give the folder of a run or of its data"
    ids: dict[str, None] = {}
    for path in files:
        with path.open("rb") as file:
            for line in file:
                if match := _ID.search(line):
                    ids[json.loads(match[1])] = None
    alike = [each for each in ids if problem_id and (problem_id in each or each in problem_id)][:3]
    alike = alike or difflib.get_close_matches(problem_id, list(ids)[:_MAX_CANDIDATES])
    hint = f"the closest: {', '.join(map(repr, alike))}" if alike else "no id is close"
    return f"no problem {problem_id!r} in {places}, where {len(ids):,} ids are known; {hint}"
