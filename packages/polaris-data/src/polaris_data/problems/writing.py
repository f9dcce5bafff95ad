"""Problems in the formats of others: JSON lines, parquet, and the parquet that verl reads.

`polaris_data.problems.reading.read_problems` and ``polaris-data import`` read each of them back as the same problems.
In parquet, ``extra`` is JSON text, because a column has one type and the extras of several sources do not.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from polaris_data.errors import SettingError
from polaris_data.files.journal import check_output, claim_output, whole_file, write_text
from polaris_data.files.progress import track
from polaris_data.problems.reading import to_json_line
from polaris_data.problems.source import Source
from polaris_data.records import Problem, to_prompt

Format = Literal["jsonl", "parquet", "verl"]

BATCH = 10_000
"""Problems that are held in memory, and written as one row group, together."""


def choose_format(out: Path, given: Format | None) -> Format:
    """Return the format of a file: the given one, or what its name says.

    Raises:
        SettingError: If the name says nothing, or something else.
    """
    by_name: dict[str, tuple[Format, ...]] = {".jsonl": ("jsonl",), ".parquet": ("parquet", "verl")}
    formats = by_name.get(out.suffix)
    if formats is None or (given or formats[0]) not in formats:
        wanted = ".jsonl" if given == "jsonl" else ".parquet" if given else ".jsonl or .parquet"
        raise SettingError(f"--out is {str(out)!r}; give a name that ends in {wanted}")
    return given or formats[0]


def export_problems(
    source: Source, out: Path, *, format: Format | None = None, suffix: str = "", data_source: str | None = None
) -> int:
    """Write a problem set in another format, and the settings beside it.

    Args:
        source: The set; read once.
        out: File to write.
        format: As for `write_as`; ``None`` goes by the name of the file.
        suffix: As there.
        data_source: As there.

    Returns:
        How many problems have more references than the format of verl takes for the truth.

    Raises:
        SettingError: If the name of the file says another format.
        OtherRunError: If the file belongs to a run with other settings.
    """
    chosen = choose_format(out, format)
    settings = {
        "command": "polaris-data export",
        **source.fingerprint(),
        "format": chosen,
        "suffix": suffix,
        "data_source": data_source,
        "limit": source.limit,
        "skip_invalid": source.skip_invalid,
    }
    check_output(out, settings)
    problems = track(source.iterate(), total=source.count(), label="exporting")
    with whole_file(out) as whole:
        num_several = write_as(
            problems, whole, format=chosen, suffix=suffix, data_source=data_source, split=source.split
        )
        claim_output(out, settings)
    return num_several if chosen == "verl" else 0


def write_as(
    problems: Iterable[Problem],
    out: Path,
    *,
    format: Format,
    suffix: str = "",
    data_source: str | None = None,
    split: str = "train",
) -> int:
    """Write problems; the file appears whole.

    Args:
        problems: Any number; `BATCH` of them are in memory at a time.
        out: File to write.
        format: ``verl`` writes ``data_source``, ``prompt`` (one user turn), ``ability``, ``reward_model`` and
            ``extra_info``. Its ``ground_truth`` is text, which is what verl's own rewards take: the first
            reference; all of them are in ``extra_info.references``.
        suffix: For verl, what each prompt ends with.
        data_source: For verl, which chooses a reward by it; ``None`` is the source of each problem.
        split: For verl, the name in ``extra_info.split``.

    Returns:
        How many problems have several references.
    """
    num_several = 0

    def counted() -> Iterator[Problem]:
        nonlocal num_several
        for problem in problems:
            num_several += len(problem.references) > 1
            yield problem

    if format == "jsonl":
        write_text(out, map(to_json_line, counted()))
    elif format == "parquet":
        _write_parquet(out, counted(), lambda problem, _: _to_row(problem), _PARQUET)
    else:
        _write_parquet(
            out,
            counted(),
            lambda problem, index: {
                "data_source": problem.source if data_source is None else data_source,
                "prompt": [{"role": "user", "content": to_prompt(problem, suffix=suffix)}],
                "ability": "math",
                "reward_model": {"ground_truth": problem.references[0], "style": "rule"},
                "extra_info": {"index": index, "split": split, **_to_row(problem)},
            },
            _VERL,
        )
    return num_several


_TURN = {"role": "string", "content": "string"}
_PARQUET: dict[str, Any] = {
    "problem_id": "string",
    "question": "string",
    "references": ["string"],
    "source": "string",
    "extra": "string",
}
_VERL: dict[str, Any] = {
    "data_source": "string",
    "prompt": [_TURN],
    "ability": "string",
    "reward_model": {"ground_truth": "string", "style": "string"},
    "extra_info": {"index": "int64", "split": "string", **_PARQUET},
}


def _to_row(problem: Problem) -> dict[str, Any]:
    return {
        "problem_id": problem.problem_id,
        "question": problem.question,
        "references": list(problem.references),
        "source": problem.source,
        "extra": json.dumps(problem.extra, ensure_ascii=False, default=str),
    }


def _write_parquet(
    out: Path, problems: Iterable[Problem], to_row: Callable[[Problem, int], dict[str, Any]], shape: dict[str, Any]
) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema([(name, _to_type(kind)) for name, kind in shape.items()])
    rows = (to_row(problem, index) for index, problem in enumerate(problems))
    with whole_file(out) as temporary, ParquetWriter(temporary, schema) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))


def _to_type(kind: Any) -> Any:
    """Return the arrow type of ``"string"``, ``[kind]`` (a list) or ``{name: kind}`` (a struct)."""
    import pyarrow

    if isinstance(kind, list):
        return pyarrow.list_(_to_type(kind[0]))
    if isinstance(kind, dict):
        return pyarrow.struct([(name, _to_type(inner)) for name, inner in kind.items()])
    return pyarrow.int64() if kind == "int64" else pyarrow.string()
