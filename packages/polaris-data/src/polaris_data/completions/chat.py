"""Responses and conversations in the form of chat interfaces."""

from typing import Any, cast

from polaris_data.completions.by_names import from_response, model_of, problem_columns
from polaris_data.completions.sampled import Columns, Sampled, as_object, error_text, facts_of, to_completion
from polaris_data.files.documents import are_turns
from polaris_data.problems.columns import structured
from polaris_data.problems.conversion import take_fields, to_statement

CONVERSATION_COLUMNS = ("messages", "conversations", "conversation", "all_messages")
"""Where a row may hold what was asked and what was answered."""


def batch_request(columns: Columns) -> Sampled:
    """Read a request of an OpenAI batch: it has no completion, but says what was asked."""
    problem = {"id": columns["custom_id"], "question": asked_in(columns["body"])}
    return Sampled(problem=problem, completions=[], is_request=True)


def batch_response(columns: Columns) -> Sampled:
    """Read a line of the output of an OpenAI batch or of ``vllm run-batch``: a response or an error."""
    rest = problem_columns(columns, "id", "response", "result", "error") | {"id": columns["custom_id"]}
    response = as_object(columns.get("response") or columns.get("result"))
    body = as_object(response.get("body", response.get("message"))) or response
    error = error_text(columns.get("error")) or error_text(body.get("error"))
    completions = from_response(body) if error is None else []
    if not completions:
        completions = [{"text": None, "error": error or f"no response (status {response.get('status_code')})"}]
    return Sampled(problem=rest, completions=completions, model=model_of(columns))


def chat_response(columns: Columns) -> Sampled:
    """Read a chat response or a text completion, with other columns beside its ``choices``."""
    rest = problem_columns(columns, "choices", "usage", "object", "created", "model")
    completions = from_response(columns)
    completions = [{**rest, **each} for each in completions] if len(completions) == 1 else completions
    return Sampled(problem=rest, completions=completions, prompts=rest, model=model_of(columns))


def conversation(columns: Columns) -> Sampled:
    """Read a row that holds a whole conversation, or several about the same question."""
    name = next(name for name in CONVERSATION_COLUMNS if name in columns)
    value = structured(columns[name])
    chats = [value] if are_turns(value) else cast("list[Any]", value)
    rest = problem_columns(columns, name)
    if to_statement(take_fields(rest)) is None:
        rest |= {"question": asked_in({"messages": chats[0]})}
    completions = [to_completion(each) for each in chats]
    if len(chats) == 1:
        completions = [{**rest, **facts_of(columns), **completions[0]}]
    return Sampled(problem=rest, completions=completions, prompts=rest, model=model_of(columns))


def asked_in(columns: Columns) -> Any:
    """Return the question, or the messages that end with it, of a request or of a row beside a response."""
    names = ("messages", "input", "prompt", "user_message", "question")
    return next((columns[name] for name in names if columns.get(name) is not None), None)
