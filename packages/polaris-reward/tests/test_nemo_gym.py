"""The verdict in a resources server: what its verify adds to the request."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from polaris_reward.convention import DEFAULT
from polaris_reward.errors import ReferencesError
from polaris_reward.nemo_gym import verify


def message(*texts: str) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []} for text in texts],
    }


THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": r"\boxed{7}"}]}
CALL = {"type": "function_call", "name": "python", "arguments": "{}", "call_id": "1"}
RESULT = {"type": "function_call_output", "output": r"\boxed{7}", "call_id": "1"}


def objects(value: Any) -> Any:
    """Turn nested mappings into objects, as the server's models are."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: objects(each) for name, each in value.items()})
    return [objects(each) for each in value] if isinstance(value, list) else value


def request(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"responses_create_params": {"input": "7?"}, "response": {"output": list(items)}, **fields}


@pytest.mark.parametrize(
    ("items", "reward", "outcome"),
    [
        ([THOUGHT, message(r"\boxed{7}")], 1.0, "correct"),
        ([message(r"\box", "ed{7}")], 1.0, "correct"),
        ([message("Let me see."), CALL, RESULT, message(r"\boxed{8}")], 0.0, "incorrect"),
        ([message("Let me see."), CALL, RESULT], 0.0, "no_answer"),
        ([THOUGHT], 0.0, "no_answer"),
        ([message("It is 7.")], 0.0, "no_answer"),
        (
            [{"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "7"}]}],
            0.0,
            "no_answer",
        ),
        ([], 0.0, "no_answer"),
    ],
)
def test_the_last_message_is_graded(items: list[dict[str, Any]], reward: float, outcome: str) -> None:
    body = request(*items, expected_answer="7")
    for form in (body, objects(body)):
        verdict = asyncio.run(verify(form))
        assert (verdict["reward"], verdict["outcome"], verdict["mask_sample"]) == (reward, outcome, False)


def test_a_server_answers_with_its_request_and_the_verdict() -> None:
    body = request(message(r"\boxed{7}"), expected_answer=["6", "7"])

    class Server:
        async def verify(self, body: dict[str, Any]) -> dict[str, Any]:
            return {**body, **await verify(body)}

    answered = asyncio.run(Server().verify(body))
    assert answered == body | {"reward": 1.0, "mask_sample": False, "outcome": "correct", "extracted_answer": "7"}


def test_a_sample_whose_accepted_answer_cannot_be_read_is_masked() -> None:
    verdict = asyncio.run(verify(request(message(r"\boxed{7}"), expected_answer="{{")))
    assert (verdict["reward"], verdict["mask_sample"], verdict["outcome"]) == (0.0, True, "reference_rejected")


def test_other_settings_are_passed_on() -> None:
    assert asyncio.run(verify(request(message("It is 7."), answer="7"), policy=DEFAULT))["reward"] == 1.0
    opened = request(message(r"\boxed{7}"), answer="7")
    assert asyncio.run(verify(opened, prefilled="<think>"))["outcome"] == "no_answer"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "the request needs a field 'expected_answer' or 'answer' or .*; add it to the task"),
        ({"expected_answer": ""}, "field 'expected_answer' is ''; give an answer"),
        ({"answer": {"a": 1}}, "field 'answer' is .*; give an answer"),
    ],
)
def test_a_request_without_an_accepted_answer_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ReferencesError, match=sentence):
        asyncio.run(verify(request(message("7"), **fields)))
