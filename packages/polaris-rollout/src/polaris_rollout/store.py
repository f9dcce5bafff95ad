"""Sampled groups on disk: one parquet file for each batch of groups, a row for each completion."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polaris_rollout.records import Completion, Group, SamplingParams, completion_seed

_SCHEMA = {
    "problem_id": pa.string(),
    "sample": pa.int32(),
    "prompt_token_ids": pa.list_(pa.int32()),
    "token_ids": pa.list_(pa.int32()),
    "logprobs": pa.list_(pa.float32()),
    "text": pa.string(),
    "finish_reason": pa.string(),
    "temperature": pa.float32(),
    "seed": pa.int64(),
}


def write_groups(
    path: Path,
    groups: Sequence[Group],
    params: SamplingParams,
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Write groups to one parquet file, under a temporary name first.

    Args:
        path: The file.
        groups: In the order to be kept.
        params: What they were sampled with.
        columns: Further columns by name, one value for each completion in order.
    """
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
            "seed": completion_seed(params.seed, group.problem_id, sample),
        }
        for group in groups
        for sample, completion in enumerate(group.completions)
    ]
    table = pa.Table.from_pylist(rows, schema=pa.schema(_SCHEMA))
    for name, values in (columns or {}).items():
        table = table.append_column(name, pa.array(values))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


def read_groups(path: Path) -> list[Group]:
    """Read what `write_groups` wrote: same groups, same order; log-probabilities as float32."""
    rows: list[dict[str, Any]] = pq.read_table(path, columns=list(_SCHEMA)).to_pylist()
    return [_to_group(problem_id, list(members)) for problem_id, members in groupby(rows, key=itemgetter("problem_id"))]


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read further columns, one value for each completion in the order of `read_groups`."""
    return pq.read_table(path, columns=list(names)).to_pydict()


def _to_group(problem_id: str, rows: Sequence[Mapping[str, Any]]) -> Group:
    return Group(
        problem_id=problem_id,
        prompt_token_ids=tuple(rows[0]["prompt_token_ids"]),
        completions=tuple(
            Completion(
                token_ids=tuple(row["token_ids"]),
                logprobs=tuple(row["logprobs"]),
                text=row["text"],
                finish_reason=row["finish_reason"],
            )
            for row in rows
        ),
    )
