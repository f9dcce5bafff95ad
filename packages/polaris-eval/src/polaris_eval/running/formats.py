"""Files of completions from elsewhere, whoever wrote them, as groups of one problem each.

Every row is looked at by itself and recognised by its columns:

- ours: ``problem_id``, ``references``, ``completions`` (objects with ``text``);
- the published recipe's results: ``responses`` and ``reward_model.ground_truth``;
- lm-eval's sample logs: ``doc_id``, ``target``, ``resps``;
- lighteval's details: ``doc`` and ``model_response``, in older versions ``predictions`` and ``gold``;
- anything else with ``response(s)`` or ``completion(s)``, and ``references``, ``answer`` or the like.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from polaris_data.files import track
from polaris_data.problems import Row, count_rows, read_rows
from polaris_reward import prefilled_think, thoughts_apart, to_references

from polaris_eval.errors import CompletionsFileError

RESPONSE_COLUMNS = ("completions", "responses", "response", "completion", "output", "text")
"""Where the completions of a row may stand: one, or a list of them."""

SAMPLED_COLUMNS = {*RESPONSE_COLUMNS, "resps", "filtered_resps", "predictions", "model_response"}
"""Columns that hold no prompt."""

TEXT_KEYS = ("text", "response", "completion", "output", "content")
"""Where the text of a completion that is an object may stand."""

REFERENCE_COLUMNS = ("references", "reward_model.ground_truth", "ground_truth", "reference", "target", "gold", "answer")
"""Where the accepted answers of a row may stand: one, or a list of them; a dot leads into a nested object."""

ID_COLUMNS = ("problem_id", "id", "doc_id", "extra_info.index")
"""Where a row may say which problem it is of."""

QUESTION_COLUMNS = ("question", "problem", "prompt")
"""What tells problems apart where no id does."""

DOC_QUESTION_COLUMNS = ("question", "problem", "query")
"""Where the nested ``doc`` of a sample log may say what was asked."""

SOLUTION_MARKER = "####"
"""In front of the answer of a written-out solution, as in GSM8K."""


def read_completions(path: Path) -> list[dict[str, Any]]:
    """Read a file of completions.

    Args:
        path: JSON lines, JSON, CSV or parquet. A row holds one completion or all of a problem; rows of the same
            problem are put together. Grades in the file are not used.

    Returns:
        For each problem, in order of appearance, ``problem_id``, ``question`` where the file has it, ``references``,
        and ``completions``: each with ``text``, ``num_tokens`` and ``finish_reason`` (``None`` where the file does not
        say), and ``budgets``, ``score`` and ``prefilled`` where it has them; the last is the opening think tag that
        the prompt ended with, as far as the row tells.

    Raises:
        CompletionsFileError: If a row cannot be used, the references of a problem differ, or there is no row.
        DataError: If the file cannot be read.
    """
    groups: dict[str, dict[str, Any]] = {}
    filters: dict[str, Any] = {}
    rows = track(read_rows(path, split="train", revision=None), total=count_rows(path), label=f"reading {path.name}")
    for number, row in enumerate(rows):
        key = _problem_id(row, number)
        # lm-eval repeats every completion for each of its filters.
        if filters.setdefault(key, row.columns.get("filter")) != row.columns.get("filter"):
            continue
        group = _to_group(row, key)
        known = groups.setdefault(key, {**group, "completions": []})
        if known["references"] != group["references"]:
            raise CompletionsFileError(
                f"{row.place}: problem {key!r} has the references {group['references']!r} here and "
                f"{known['references']!r} above; give each problem its own id"
            )
        known["completions"] += group["completions"]
    if not groups:
        raise CompletionsFileError(f"{path}: holds no completions; give a file with at least one row")
    return list(groups.values())


def _to_group(row: Row, key: str) -> dict[str, Any]:
    columns = row.columns
    if isinstance(columns.get("model_response"), Mapping):
        completions, references = _lighteval(columns, row.place)
    elif "resps" in columns:
        completions, references = list(_leaves(columns["resps"])), _references(row)
    elif "predictions" in columns:
        completions, references = _listed(columns["predictions"]), _references(row)
    else:
        name = next((name for name in RESPONSE_COLUMNS if columns.get(name) is not None), None)
        if name is None:
            raise _missing(row, "completions", RESPONSE_COLUMNS)
        # What stands beside a single completion (its length, say) is said of it.
        value = columns[name]
        completions = list(value) if isinstance(value, list) else [dict(columns) if isinstance(value, str) else value]
        references = _references(row)
    if not completions:
        raise CompletionsFileError(f"{row.place}: problem {key!r} has no completion; leave the row out")
    question = _question(row)
    prompts = [value for name, value in columns.items() if name not in SAMPLED_COLUMNS]
    prefilled = prefilled_think([*prompts, _at(columns, "model_response.input")])
    return {
        "problem_id": key,
        **({} if question is None else {"question": question}),
        "references": references,
        "completions": [_to_completion(completion, row.place, prefilled=prefilled) for completion in completions],
    }


def _problem_id(row: Row, number: int) -> str:
    doc = row.columns.get("doc")
    for columns, names in ((row.columns, ID_COLUMNS), (doc, ("id",)), (row.columns, QUESTION_COLUMNS)):
        for name in names if isinstance(columns, Mapping) else ():
            value = _at(cast(Mapping[str, Any], columns), name)
            if isinstance(value, str | int) and str(value).strip():
                return str(value)
    return f"row-{number}"


def _question(row: Row) -> str | None:
    """Return what was asked, if the row says it: for whoever reads the report."""
    doc = row.columns.get("doc")
    for columns, names in ((row.columns, QUESTION_COLUMNS), (doc, DOC_QUESTION_COLUMNS)):
        for name in names if isinstance(columns, Mapping) else ():
            value = cast(Mapping[str, Any], columns).get(name)
            if isinstance(value, str) and value.strip():
                return value
            if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
                return "\n\n".join(str(turn.get("content", "")) for turn in cast(list[Mapping[str, Any]], value))
    return None


def _references(row: Row) -> list[str]:
    for name in REFERENCE_COLUMNS:
        value = _at(row.columns, name)
        if value is not None:
            return _checked(_listed(value) if name == "gold" else value, f"{row.place}: {name!r}")
    raise _missing(row, "accepted answer", REFERENCE_COLUMNS)


def _checked(value: object, place: str) -> list[str]:
    references = to_references(value)
    if not references or not all(references):
        raise CompletionsFileError(f"{place} is {value!r:.60}; expected an answer or a list of answers")
    return [reference.rpartition(SOLUTION_MARKER)[2].strip() for reference in references]


def _lighteval(columns: Mapping[str, Any], place: str) -> tuple[list[Any], list[str]]:
    response, doc = columns["model_response"], columns.get("doc")
    choices = doc.get("choices") if isinstance(doc, Mapping) else None
    index = doc.get("gold_index") if isinstance(doc, Mapping) else None
    if not isinstance(choices, list) or index is None:
        raise CompletionsFileError(f"{place}: 'doc' has no 'choices' and 'gold_index' that say the accepted answer")
    indices = index if isinstance(index, list) else [index]
    texts, tokens = _listed(response.get("text")), response.get("output_tokens")
    lengths = tokens if isinstance(tokens, list) and len(tokens) == len(texts) else [None] * len(texts)
    completions = [{"text": text, "token_ids": length} for text, length in zip(texts, lengths, strict=True)]
    return completions, _checked([choices[each] for each in indices], f"{place}: 'choices'")


def _to_completion(value: object, place: str, *, prefilled: str) -> dict[str, Any]:
    fields = cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {"text": value}
    text = next((fields[key] for key in TEXT_KEYS if isinstance(fields.get(key), str)), None)
    if text is None:
        raise CompletionsFileError(f"{place}: a completion is {value!r:.60}; expected its text")
    known = "" if thoughts_apart(fields) else fields.get("prefilled") or prefilled or None
    return {
        "text": text,
        "num_tokens": _num_tokens(fields),
        "finish_reason": fields.get("finish_reason") if isinstance(fields.get("finish_reason"), str) else None,
        **{key: fields[key] for key in ("budgets", "score") if fields.get(key) is not None},
        **({} if known is None else {"prefilled": str(known)}),
    }


def _num_tokens(fields: Mapping[str, Any]) -> int | None:
    num_tokens, token_ids = fields.get("num_tokens"), fields.get("token_ids")
    if type(num_tokens) is int:
        return num_tokens
    return len(cast(list[object], token_ids)) if isinstance(token_ids, list) else None


def _listed(value: object) -> list[Any]:
    """Return a list that may have been written as the text of one."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return [value]
    return cast(list[Any], value) if isinstance(value, list) else [value]


def _leaves(value: object) -> Iterator[Any]:
    if isinstance(value, list):
        for each in cast(Iterable[object], value):
            yield from _leaves(each)
    else:
        yield value


def _at(columns: Mapping[str, Any], name: str) -> Any:
    parent, _, child = name.rpartition(".")
    inner = columns.get(parent) if parent else columns
    return cast(Mapping[str, Any], inner).get(child) if isinstance(inner, Mapping) else None


def _missing(row: Row, what: str, names: Sequence[str]) -> CompletionsFileError:
    found = ", ".join(map(repr, row.columns)) or "nothing"
    return CompletionsFileError(f"{row.place}: no {what} under {', '.join(map(repr, names))}; found {found}")
