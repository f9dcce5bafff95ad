"""Groups in one parquet file, a row for each completion; errors of reading and writing said in one sentence."""

import errno
import json
import os
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from json import JSONDecodeError
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from polaris_rollout.errors import StoreError
from polaris_rollout.records import Completion, Group, SamplingParams, completion_seed

_SETTINGS = b"polaris"
"""What `write_groups` keeps settings under in a file's metadata."""

_ROWS_AT_ONCE = 32
"""Completions that are in memory while a file is read: one may have 50,000 tokens."""

_FREE_MIB = 128
"""Asked for on a full disk: room for two parts of a store."""

_SCHEMA = pa.schema(
    {
        "problem_id": pa.string(),
        "sample": pa.int32(),
        "prompt_token_ids": pa.list_(pa.int32()),
        "token_ids": pa.list_(pa.int32()),
        "logprobs": pa.list_(pa.float32()),
        "text": pa.string(),
        "finish_reason": pa.string(),
        "temperature": pa.float32(),
        "weights_version": pa.string(),
        "seed": pa.int64(),
        "prefilled": pa.string(),
        "weights": pa.list_(pa.struct({"first_token": pa.int32(), "version": pa.string()})),
    }
)

_LATER = {"prefilled", "weights"}
"""Columns that a file may lack: an earlier version wrote it, or none of its completions spans versions."""


def write_groups(
    path: Path,
    groups: Sequence[Group],
    params: SamplingParams,
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    rows_together: int | None = None,
) -> None:
    """Write groups to one parquet file, under a temporary name first.

    Args:
        path: The file.
        groups: In the order to be kept.
        params: What they were sampled with.
        columns: Further columns by name, one value for each completion in order.
        settings: What decided on them, fit for JSON, kept for `read_settings`.
        rows_together: Completions that are read together: with few, those of some problems are found quickly.

    Raises:
        StoreError: If the file cannot be written, because the disk is full for example.
    """
    table = to_table(groups, params)
    for name, values in (columns or {}).items():
        table = table.append_column(name, pa.array(values))
    if settings is not None:
        table = table.replace_schema_metadata({_SETTINGS: json.dumps(settings)})
    with explain_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, table, rows_together=rows_together)


def read_groups(path: Path) -> list[Group]:
    """Read what `write_groups` wrote: same groups, same order; log-probabilities as float32.

    Raises:
        StoreError: If the file is damaged or holds something else.
    """
    return list(iterate_groups(path))


def iterate_groups(path: Path, *, problem_ids: Collection[str] | None = None) -> Iterator[Group]:
    """Yield what `read_groups` returns, with few completions in memory at a time.

    Args:
        path: The file.
        problem_ids: Problems whose groups are wanted; ``None`` wants all.
    """
    with explain_reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        if missing := set(_SCHEMA.names) - _LATER - set(file.schema_arrow.names):
            raise StoreError(f"{path} is not a file of groups: it has no column {', '.join(sorted(missing))}")
        parts = range(file.num_row_groups) if problem_ids is None else _parts_with(file, problem_ids)
        names = [name for name in _SCHEMA.names if name in file.schema_arrow.names]
        batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=list(parts), columns=names)
        if problem_ids is not None:
            batches = (batch.filter(_mask(batch, problem_ids)) for batch in batches)
        yield from to_groups(row for batch in batches for row in batch.to_pylist())


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read further columns, one value for each completion in the order of `read_groups`.

    Raises:
        StoreError: If the file is damaged or holds something else.
    """
    with explain_reading(path):
        return pq.read_table(path, columns=list(names), page_checksum_verification=True).to_pydict()


def read_settings(path: Path) -> dict[str, Any] | None:
    """Read what `write_groups` was told of what decided on the groups; ``None`` if it was told nothing.

    Raises:
        StoreError: If the file is damaged or holds something else.
    """
    with explain_reading(path):
        found = (pq.read_schema(path).metadata or {}).get(_SETTINGS)
        return None if found is None else json.loads(found)


def count_tokens(path: Path) -> list[int]:
    """Return the number of tokens of each completion in the order of `read_groups`, few of them in memory at a time.

    Raises:
        StoreError: If the file is damaged or holds something else.
    """
    with explain_reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=["token_ids"])
        lists: Iterator[Any] = (batch.column(0) for batch in batches)
        return [length for column in lists for length in column.value_lengths().to_pylist()]


def to_table(groups: Iterable[Group], params: SamplingParams, *, first_sample: int = 0) -> Any:
    """Return a pyarrow table with a row for each completion; those of a group are numbered from ``first_sample``."""
    rows = [
        {
            "problem_id": group.problem_id,
            "sample": sample,
            "prompt_token_ids": group.prompt_token_ids,
            "token_ids": completion.token_ids,
            "logprobs": completion.logprobs,
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "temperature": params.temperature,
            "weights_version": group.weights_version,
            "seed": completion_seed(params.seed, group.problem_id, sample),
            "prefilled": group.prefilled,
            "weights": [{"first_token": first, "version": version} for first, version in completion.weights] or None,
        }
        for group in groups
        for sample, completion in enumerate(group.completions, start=first_sample)
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    return table if any(row["weights"] for row in rows) else table.drop_columns("weights")


def to_groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[Group]:
    """Yield the groups of rows as `to_table` makes them; the rows of a group stand together."""
    for problem_id, members in groupby(rows, key=itemgetter("problem_id")):
        first, *others = members
        yield Group(
            problem_id=problem_id,
            prompt_token_ids=tuple(first["prompt_token_ids"]),
            completions=tuple(
                Completion(
                    token_ids=tuple(row["token_ids"]),
                    logprobs=tuple(row["logprobs"]),
                    text=row["text"],
                    finish_reason=row["finish_reason"],
                    weights=tuple((each["first_token"], each["version"]) for each in row.get("weights") or ()),
                )
                for row in (first, *others)
            ),
            weights_version=first["weights_version"],
            prefilled=first.get("prefilled") or "",
        )


def _parts_with(file: pq.ParquetFile, problem_ids: Collection[str]) -> list[int]:
    """Return the row groups that hold completions of these problems."""
    found = iter(file.read(columns=["problem_id"])["problem_id"].to_pylist())
    parts = [set(islice(found, file.metadata.row_group(part).num_rows)) for part in range(file.num_row_groups)]
    return [number for number, part in enumerate(parts) if not part.isdisjoint(problem_ids)]


def _mask(batch: Any, problem_ids: Collection[str]) -> Any:
    return pa.array([problem_id in problem_ids for problem_id in batch["problem_id"].to_pylist()], pa.bool_())


def write_table(path: Path, table: Any, *, rows_together: int | None = None) -> None:
    """Write a pyarrow table to a parquet file whose pages have checksums."""
    with renamed_when_whole(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True, row_group_size=rows_together)


@contextmanager
def renamed_when_whole(path: Path) -> Generator[BinaryIO]:
    """Open a new file that gets its name when it is whole and on the disk; a failure leaves nothing."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def explain_writing(path: Path) -> Generator[None]:
    """Turn what the system refuses to write into a `StoreError` with the remedy."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = f"free {_FREE_MIB} MiB or more on its disk" if full else "make it writable"
        raise StoreError(
            f"{path} cannot be written ({error.strerror or error}); {remedy}, then the same command continues "
            "with all that was finished"
        ) from error


@contextmanager
def explain_reading(path: Path) -> Generator[None]:
    """Turn what cannot be read into a `StoreError` that names the file."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError, JSONDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(f"{path} cannot be read ({reason}); remove it and the same command makes it again") from error
