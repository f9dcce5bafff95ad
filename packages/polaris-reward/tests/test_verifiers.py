"""The reward in a rubric: called by the names of its parameters, as the library does."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_origin

import pytest
from polaris_reward.convention import DEFAULT
from polaris_reward.errors import ReferencesError
from polaris_reward.verifiers import correct_answer

FOR_GROUPS = {"states", "prompts", "completions", "answers", "tasks", "infos"}
"""Parameters by which a rubric takes a function for one that scores a whole group."""


def score(
    completion: Any, answer: Any = "7", *, prompt: Any = "7?", func: Callable[..., Any] = correct_answer
) -> float:
    """Do what a rubric does with one rollout."""
    signature = inspect.signature(func)
    assert not FOR_GROUPS & signature.parameters.keys()
    assert get_origin(signature.return_annotation) not in (dict, list)
    assert func.__name__
    known = {"prompt": prompt, "completion": completion, "answer": answer, "state": {}, "info": {}, "parser": object()}
    takes_all = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())

    async def call() -> float:
        said = func(**{name: value for name, value in known.items() if takes_all or name in signature.parameters})
        return float(await said if inspect.isawaitable(said) else said)

    return asyncio.run(call())


def chat(text: object, role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": text}


def test_texts_messages_and_message_objects_are_scored_alike() -> None:
    for text, expected in ((r"\boxed{7}", 1.0), (r"\boxed{8}", 0.0), ("So it is 7.", 0.0), ("", 0.0)):
        parts = [{"type": "text", "text": text}]
        for completion in (
            text,
            [chat(text)],
            [chat(parts)],
            [chat("?"), chat(r"\boxed{7}", role="tool"), chat(text)],
            [SimpleNamespace(role="assistant", content=text, reasoning_content=r"\boxed{7}")],
            [SimpleNamespace(role="text", content=text)],
        ):
            assert score(completion) == expected
    assert score([chat(None)]) == 0.0


def test_a_thought_that_the_prompt_opened_and_nothing_closed_earns_nothing() -> None:
    async def of_a_thinker(completion: Any, answer: Any, **columns: Any) -> float:
        return await correct_answer(completion, answer, prefilled="<think>", **columns)

    assert score(r"\boxed{7}", prompt="7?<think>\n") == 0.0
    assert score(r"</think>\boxed{7}", prompt="7?<think>\n") == 1.0
    assert score([chat(r"\boxed{7}")], prompt=[chat("7?", role="user")], func=of_a_thinker) == 0.0


def test_another_policy_is_passed_on_by_a_function_with_a_name() -> None:
    async def lenient(completion: Any, answer: Any, **columns: Any) -> float:
        return await correct_answer(completion, answer, policy=DEFAULT, **columns)

    assert score("So it is 7.", func=lenient) == 1.0


@pytest.mark.parametrize("answer", ["", None, [], {"a": 1}])
def test_a_task_without_an_answer_is_refused(answer: object) -> None:
    with pytest.raises(ReferencesError, match=r"the task's answer is .*; give an answer or a list of answers"):
        score(r"\boxed{7}", answer)


def test_an_answer_that_cannot_be_read_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "polaris_reward.verifiers"):
        assert [score(r"\boxed{7}", "{{{{{") for _ in range(3)] == [0.0] * 3
    assert len(caplog.records) == 1
