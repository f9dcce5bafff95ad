"""Rows of any script, read by the names of their columns; also those of open-r1, TRL, verl and the published recipe."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from polaris_reward import thoughts_apart

from polaris_data.completions.sampled import (
    FINISH_KEYS,
    Columns,
    Sampled,
    are_parts,
    as_object,
    error_text,
    facts_of,
    to_completion,
    to_finish_reason,
)
from polaris_data.files.documents import are_turns
from polaris_data.problems.columns import ID_COLUMNS, QUESTION_COLUMNS, bare_name, find, has_any, structured
from polaris_data.problems.conversion import CHAT_COLUMNS
from polaris_data.problems.prompts import ANSWERING, to_question

LIST_COLUMNS = (
    *("completions", "responses", "generations", "outputs", "predictions", "samples", "candidates"),
    *("model_responses", "model_outputs", "generated_texts", "generated_responses"),
)
"""Where a row may hold all completions of a problem: texts, or objects that hold one each."""

TEXT_COLUMNS = (
    *(
        "response",
        "completion",
        "generation",
        "generated_text",
        "model_output",
        "model_response",
        "output",
        "prediction",
    ),
    *("llm_response", "llm_output", "model_completion", "assistant_response", "raw_response", "raw_output"),
    *("full_response", "model_answer", "generated_answer", "text", "content"),
)
"""Where the answer of one completion may stand; a list there is several."""

VERDICT_COLUMNS = (
    *("outcome", "correct", "is_correct", "symbolic_correct", "acc", "correctness_math_verify", "score", "reward"),
)
"""Where its grade may stand: an outcome of polaris-reward, true or false, 1 and 0, or 1 and -1."""

LIST_VERDICT_COLUMNS = ("scores", "rewards", "outcomes", *VERDICT_COLUMNS)
"""Where a row of several may hold their grades."""

SCORE_COLUMNS = (
    *("reward_scores", "reward_score", "rm_scores", "rm_score", "reward_model_scores", "reward_model_score"),
    *("verifier_scores", "verifier_score"),
)
"""Where another model's opinion of it may stand: a number, the larger the better, and no grade."""

GOLD_COLUMNS = (
    *("gold_answer", "gold", "ground_truth", "reference", "references", "expected_answer", "correct_answer"),
    *("reference_answer", "target", "label", "gts", "gt"),
)
"""Beside one of these the column ``answer`` is the response."""

_ROW_COLUMNS = (
    *(
        "doc",
        "example",
        "item",
        "row",
        "sample",
        "problem",
        "question",
        "prompt",
        "input",
        "request",
        "data",
        "metadata",
    ),
    "extra_info",
)
"""Where a script may keep the whole row of the data set that it asked about."""

MORE_ID_COLUMNS = ("doc_id", "problem_idx", "question_id", "task_id", "custom_id", "idx", "index", "uuid")
"""Where a row without an id may still say which problem it is of."""


def by_names(columns: Columns) -> Sampled:
    """Read a row by the names of its columns, without case and punctuation: one completion, or all of a problem."""
    columns = _numbered_as_lists(columns)
    name = response_column(columns)
    error = error_text(find(columns, "error", "exception"))
    rest = problem_columns(columns, *_all_named(columns, *LIST_COLUMNS, *TEXT_COLUMNS), *([name] if name else []))
    if name is None:
        completions = [{"text": None, "error": error}] if error else []
        return Sampled(problem=columns, completions=completions)
    value = columns[name]
    is_list = bare_name(name) in map(bare_name, LIST_COLUMNS)
    value = structured(value) if is_list else value
    if isinstance(value, list) and not are_turns(value) and not are_parts(value):
        completions = _several(columns, cast("list[Any]", value))
    elif isinstance(value, Mapping):
        completions = from_response(cast("Columns", value)) or [to_completion(value)]
    else:
        is_cut = to_finish_reason(find(columns, *FINISH_KEYS)) == "length"
        said_nothing = value is None and (thoughts_apart(columns) or (is_cut and error is None))
        if error is not None and not value:
            completion = {"text": None, "error": error}
        else:
            completion = to_completion("" if said_nothing else value, **facts_of(columns))
        score = find(columns, *SCORE_COLUMNS)
        completions = [{**columns, **({} if score is None else {"score": score}), **completion}]
    return Sampled(problem=rest, completions=completions, prompts=rest, model=model_of(columns))


def ours(columns: Columns) -> Sampled:
    """Read a line of `polaris-eval`: the completions of one problem, under its own id."""
    rest = problem_columns(columns, "completions")
    completions = [to_completion(each) for each in columns["completions"]]
    return Sampled(problem=rest, completions=completions, prompts=rest, is_ours=True)


def training_log(columns: Columns) -> Sampled:
    """Read a row that verl or TRL wrote while training or validating: its reward is a grade, whatever its name."""
    sampled = by_names(
        {("reward" if name == "score" else name): value for name, value in columns.items() if name != "step"}
    )
    step = columns.get("step", columns.get("global_step"))
    return Sampled(
        problem=sampled.problem,
        completions=sampled.completions,
        prompts=sampled.prompts,
        step=step if type(step) is int else None,
    )


def from_response(body: Columns) -> list[dict[str, Any]]:
    """Return the completions in the response of a server or engine; none where it is another object."""
    for name in ("choices", "outputs"):  # of chat interfaces, of vLLM
        if isinstance(body.get(name), list):
            several = cast("list[Any]", body[name])
            beside = facts_of(body) if len(several) == 1 else {}
            return [beside | _without_none(to_completion(each)) for each in several]
    if isinstance(body.get("output"), list):  # of the interface "responses": thoughts, then messages
        items = [each for each in cast("list[Any]", body["output"]) if isinstance(each, Mapping)]
        is_cut = body.get("status") == "incomplete"
        turns = [{"role": "assistant", **item} for item in items if item.get("type") in ("message", "reasoning")]
        said = to_completion(turns) if turns else to_completion("" if is_cut else None)
        return [facts_of(body) | said | {"finish_reason": "length" if is_cut else "stop"}]
    return [to_completion(body)] if are_parts(body.get("content")) else []


def problem_columns(columns: Columns, *without: str) -> dict[str, Any]:
    """Return the columns of a row that may belong to its problem: without these, and without what the model said."""
    rest = {name: value for name, value in columns.items() if name not in without and value is not None}
    if not has_any(rest, ID_COLUMNS):
        number = find(rest, *MORE_ID_COLUMNS)
        rest |= {} if number is None else {"id": number}
    for name in CHAT_COLUMNS:
        if are_turns(chat := structured(rest.get(name))):
            turns = cast("list[dict[str, Any]]", chat)
            rest[name] = [one for one in turns if str(one.get("role", one.get("from"))).casefold() not in ANSWERING]
    return _with_row_inside(rest)


def model_of(columns: Columns) -> str | None:
    """Return who wrote the completions of a row, if it says that."""
    name = next((columns[each] for each in ("model_name", "model", "generator") if columns.get(each)), None)
    return name if isinstance(name, str) else None


def response_column(columns: Columns) -> str | None:
    """Return the column of the completions: the first with a value, else the first without."""
    named = _all_named(columns, *LIST_COLUMNS, *TEXT_COLUMNS)
    usable = [name for name in named if isinstance(columns[name], str | list | Mapping)]
    answer = next((name for name in ("answer", "answers") if name in columns), None)
    if answer and not usable and has_any(columns, GOLD_COLUMNS):
        return answer
    return next(iter(usable or named), None)


def _with_row_inside(rest: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a problem; where none says its question, with those of a whole row inside one of them."""
    if to_question(find(rest, *QUESTION_COLUMNS, *CHAT_COLUMNS)) is not None:
        return rest
    for name in _ROW_COLUMNS:
        inside = as_object(rest.get(name))
        if to_question(find(inside, *QUESTION_COLUMNS, *CHAT_COLUMNS)) is not None:
            return {**inside, **{column: value for column, value in rest.items() if column != name}}
    return rest


_NUMBERED = re.compile(r"(\D+?)(\d+)")


def _numbered_as_lists(columns: Columns) -> Columns:
    """Return a row of ``output_1``, ``output_2``, ... with a list of them, and so of the grades beside them."""
    found = _numbered(tuple(columns))
    if not found:
        return columns
    stems = [*map(bare_name, TEXT_COLUMNS), *(["answer"] if has_any(columns, GOLD_COLUMNS) else [])]
    stem = next((each for each in stems if each in found), None)
    plain = response_column(columns)
    if stem is None or (plain is not None and bare_name(plain) not in found):
        return columns
    if plain is not None:
        other = next(iter(found[bare_name(plain)].values()))
        raise ValueError(f"{plain!r} stands beside {other!r}; rename what is no completion")
    numbers = sorted(found[stem])
    facts = {each: found[each] for each in map(bare_name, (*VERDICT_COLUMNS, *FINISH_KEYS)) if each in found}
    taken = {column for named in (found[stem], *facts.values()) for column in named.values()}
    lists = {name: [columns.get(named.get(each, "")) for each in numbers] for name, named in facts.items()}
    rest = {name: value for name, value in columns.items() if name not in taken}
    return {**rest, **lists, "completions": [columns[found[stem][each]] for each in numbers]}


@lru_cache(maxsize=4096)
def _numbered(columns: tuple[str, ...]) -> Mapping[str, Mapping[int, str]]:
    """Return the columns whose names end with a number, by the name before it and by the number."""
    found: dict[str, dict[int, str]] = {}
    for column in columns:
        if match := _NUMBERED.fullmatch(bare_name(column)):
            found.setdefault(match[1], {})[int(match[2])] = column
    return found


def _all_named(columns: Columns, *names: str) -> Sequence[str]:
    """Return the columns of these names, in the order of the names."""
    return _places(tuple(columns), names)


@lru_cache(maxsize=4096)
def _places(columns: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    by_bare_name = {bare_name(column): column for column in reversed(columns)}
    return tuple(by_bare_name[bare] for bare in map(bare_name, names) if bare in by_bare_name)


def _several(columns: Columns, values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the completions of a list, each with what the lists beside it say."""
    verdicts = _list_beside(columns, values, LIST_VERDICT_COLUMNS)
    scores = _list_beside(columns, values, SCORE_COLUMNS)
    reasons = _list_beside(columns, values, FINISH_KEYS)
    wholes = _list_beside(columns, values, ("is_reasoning_complete",))
    if reasons is None and wholes is not None:
        reasons = ["stop" if whole else "length" for whole in wholes]
    completions: list[dict[str, Any]] = []
    for number, value in enumerate(values):
        inside = from_response(as_object(value))
        completion = inside[0] if len(inside) == 1 else to_completion(value)
        if verdicts and verdicts[number] is not None:
            completion["outcome" if isinstance(verdicts[number], str) else "reward"] = verdicts[number]
        if scores and scores[number] is not None:
            completion["score"] = scores[number]
        if reasons and (reason := to_finish_reason(reasons[number])):
            completion["finish_reason"] = reason
        completions.append(completion)
    if len(completions) == 1:
        completions = [_without_none(facts_of(columns)) | completions[0]]
    return completions


def _list_beside(columns: Columns, values: Sequence[Any], names: Sequence[str]) -> list[Any] | None:
    """Return the list that says something of each completion of a row."""
    found = next((each for name in names if isinstance(each := structured(find(columns, name)), list)), None)
    if found is not None and len(found) != len(values):
        raise ValueError(f"{len(values)} completions but {len(found)} grades, scores or remarks; give one for each")
    return found


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None or name == "text"}
