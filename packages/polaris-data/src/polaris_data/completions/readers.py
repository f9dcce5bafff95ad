"""Rows of completions as other tools write them: a table of readers, one small function a format.

The first reader that knows a row by its columns reads it. Whatever none of them knows is read by the names of its
columns (`by_names`), which is enough for most scripts and for the formats named there.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from polaris_data.completions import chat, harnesses
from polaris_data.completions.by_names import by_names, ours, response_column, training_log
from polaris_data.completions.sampled import Columns, Sampled
from polaris_data.files.documents import are_turns
from polaris_data.problems.columns import structured
from polaris_data.problems.prompts import ANSWERING, turns_of


class Reader(NamedTuple):
    """How one kind of row is known and read."""

    writer: str
    """Which tool writes it."""

    fits: Callable[[Columns], bool]
    """Whether a row is of this kind, by its columns."""

    read: Callable[[Columns], Sampled]
    """Raises ValueError with the reason where a row of this kind cannot be used."""


def to_sampled(columns: Columns) -> Sampled:
    """Return what a row says, whoever wrote it; without completions where no column holds any.

    Raises:
        ValueError: If the row cannot be used; the message is the reason.
    """
    reader = next(reader for reader in READERS if reader.fits(columns))
    try:
        return reader.read(columns)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"not as {reader.writer} writes it ({error!r:.100})") from error


def _has(*names: str) -> Callable[[Columns], bool]:
    wanted = frozenset(names)
    return lambda columns: wanted <= columns.keys()


def _is_batch(columns: Columns) -> bool:
    response = columns.get("response", columns.get("result"))
    return "custom_id" in columns and (isinstance(response, Mapping) or (response is None and "error" in columns))


def _is_review(columns: Columns) -> bool:
    return isinstance(columns.get("sample_score"), Mapping)


def _is_prediction(columns: Columns) -> bool:
    return isinstance(columns.get("model_output"), Mapping) and "messages" in columns


def _is_detail(columns: Columns) -> bool:
    return "__model_response__" in columns or isinstance(structured(columns.get("model_response")), Mapping)


def _is_qwen(columns: Columns) -> bool:
    return isinstance(columns.get("code"), list) and bool({"gt", "pred"} & columns.keys())


def _is_any(columns: Columns) -> bool:
    return True


def _is_chat_response(columns: Columns) -> bool:
    choices = columns.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(each, Mapping) and {"message", "text"} & each.keys() for each in cast("list[Any]", choices))
        and not any(name in columns for name in ("response", "responses", "completion", "completions"))
    )


def _is_log(columns: Columns) -> bool:
    names = columns.keys()
    is_verl = {"input", "output"} <= names and bool({"gts", "step", "score"} & names) and "instruction" not in names
    return is_verl or ({"prompt", "completion"} <= names and bool({"step", "advantage"} & names))


def _is_conversation(columns: Columns) -> bool:
    """Return whether a row holds the response in a conversation, and not in a column of its own."""
    name = next((name for name in chat.CONVERSATION_COLUMNS if name in columns), None)
    value = structured(columns[name]) if name else None
    chats = [value] if are_turns(value) else cast("list[Any]", value) if isinstance(value, list) else []
    if not chats or not all(map(are_turns, chats)):
        return False
    column = response_column(columns)
    return column is None or (column in ("text", "content") and turns_of(chats[0])[-1][0] in ANSWERING)


def _is_ours(columns: Columns) -> bool:
    completions = columns.get("completions")
    return (
        isinstance(columns.get("problem_id"), str)
        and isinstance(completions, list)
        and all(isinstance(each, Mapping) and "text" in each for each in cast("list[Any]", completions))
    )


READERS: tuple[Reader, ...] = (
    Reader("polaris-eval run", _is_ours, ours),
    Reader("OpenAI batch, the requests", _has("custom_id", "body"), chat.batch_request),
    Reader("OpenAI batch, vllm run-batch", _is_batch, chat.batch_response),
    Reader("evalscope, reviews", _is_review, harnesses.evalscope_review),
    Reader("evalscope, predictions", _is_prediction, harnesses.evalscope_prediction),
    Reader("evalscope before 1.0", _has("choices", "raw_input"), harnesses.evalscope_old),
    Reader("inspect", _has("input", "output", "epoch"), harnesses.inspect_sample),
    Reader("lighteval", _is_detail, harnesses.lighteval),
    Reader("lighteval before 0.10", _has("predictions", "gold"), harnesses.lighteval_old),
    Reader("lm-eval", _has("resps"), harnesses.lm_eval),
    Reader("MathArena, its own files", _has("problem", "messages", "gold_answer"), harnesses.matharena_runs),
    Reader("MathArena, published outputs", _has("answer", "gold_answer", "problem_idx"), harnesses.matharena_row),
    Reader("OpenCompass", _has("origin_prompt"), harnesses.opencompass),
    Reader("OpenCompass, results", _has("origin_prediction"), harnesses.opencompass_result),
    Reader("Qwen2.5-Math", _is_qwen, harnesses.qwen_math),
    Reader("NeMo-Skills", _has("generation", "expected_answer"), harnesses.nemo_skills),
    Reader("ZeroEval", _has("output", "chat_history"), harnesses.zero_eval),
    Reader("verl, TRL", _is_log, training_log),
    Reader("a chat response in each row", _is_chat_response, chat.chat_response),
    Reader("a conversation in each row", _is_conversation, chat.conversation),
    Reader("any other", _is_any, by_names),
)
"""In the order in which they are asked."""
