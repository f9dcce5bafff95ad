import subprocess
import sys
from typing import Any

import pytest
from polaris_reward.convention import DEFAULT
from polaris_reward.errors import CircuitBreakerError, ReferencesError
from polaris_reward.trl import accuracy_reward


def chat(text: object, role: str = "assistant") -> list[dict[str, Any]]:
    return [{"role": role, "content": text}]


def test_plain_and_conversational_completions_are_rewarded_alike() -> None:
    texts = [r"\boxed{7}", r"\boxed{8}", "", r"\boxed{\frac{14}{2}}"]
    expected = [1.0, 0.0, 0.0, 1.0]
    assert accuracy_reward(texts, solution=["7"] * 4) == expected
    assert accuracy_reward([chat(text) for text in texts], solution=["7"] * 4) == expected


@pytest.mark.parametrize("name", ["solution", "answer", "references", "ground_truth"])
@pytest.mark.parametrize("accepted", ["7", r"So it is $\boxed{7}$.", 7, 7.0, ["6", "7"], [6, 7]])
def test_references_come_from_any_of_the_usual_columns(name: str, accepted: object) -> None:
    assert accuracy_reward([r"\boxed{7}", r"\boxed{9}"], **{name: [accepted, accepted]}) == [1.0, 0.0]


def test_of_several_columns_the_first_one_counts() -> None:
    assert accuracy_reward([r"\boxed{7}"], ground_truth=["8"], answer=["8"], solution=["7"]) == [1.0]


def test_a_reference_that_is_missing_or_cannot_be_read_gives_no_reward() -> None:
    answers = ["7", "{{", None, "", "8"]
    assert accuracy_reward([r"\boxed{7}"] * 5, answer=answers) == [1.0, None, None, None, 0.0]
    assert accuracy_reward([r"\boxed{7}"] * 2, answer=[None, None]) == [None, None]


def test_a_missing_column_is_named_with_the_columns_seen() -> None:
    with pytest.raises(ReferencesError) as error:
        accuracy_reward(["7"], prompts=["?"], label=["7"], trainer_state=object())
    assert str(error.value) == (
        "the data set needs a column 'solution' or 'answer' or 'references' or 'ground_truth' with the accepted "
        "answers; it has 'label'"
    )


@pytest.mark.parametrize("value", [[], {"a": 1}, True, [None]])
def test_a_reference_of_another_kind_is_refused_with_its_column(value: object) -> None:
    with pytest.raises(ReferencesError, match=r"column 'answer' holds .*; give an answer or a list of answers"):
        accuracy_reward(["7"], answer=[value])


def test_only_what_the_assistant_says_last_is_its_answer() -> None:
    completions = [
        [*chat("Let me compute."), *chat("7", role="tool"), *chat(r"\boxed{7}")],
        [*chat("Let me compute."), *chat(r"\boxed{7}", role="tool")],
        [{"content": r"\boxed{7}"}],
        chat([{"type": "text", "text": r"\boxed{"}, {"type": "image"}, {"type": "text", "text": "7}"}]),
        chat(None),
        [{"role": "assistant", "tool_calls": []}],
        [],
    ]
    assert accuracy_reward(completions, answer=["7"] * 7) == [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_answers_and_outcomes_go_to_the_table_of_completions() -> None:
    table: dict[str, list[Any]] = {}
    accuracy_reward([r"\boxed{7}", "", "7"], answer=["8", "7", None], log_extra=table.__setitem__)
    assert table == {"extracted": ["7", None, None], "outcome": ["incorrect", "no_answer", None]}


def test_answers_are_boxed_unless_another_policy_is_passed_on_by_a_function_with_a_name() -> None:
    def lenient(completions: list[str], **columns: Any) -> list[float | None]:
        return accuracy_reward(completions, policy=DEFAULT, **columns)

    texts = ["So it is 7.", r"\boxed{7}"]
    assert accuracy_reward(texts, answer=["7", "7"]) == [0.0, 1.0]
    assert lenient(texts, answer=["7", "7"]) == [1.0, 1.0]
    assert accuracy_reward.__name__ == "accuracy_reward"


def test_a_thought_that_the_prompt_opened_and_nothing_closed_earns_nothing() -> None:
    texts = [r"\boxed{7}", r"</think>\boxed{7}"]
    prompts = ["7?<think>\n"] * 2
    assert accuracy_reward(texts, prompts=prompts, answer=["7", "7"]) == [0.0, 1.0]
    assert accuracy_reward(texts, prompts=["7?"] * 2, answer=["7", "7"]) == [1.0, 1.0]
    conversations = [chat("7?", role="user")] * 2
    assert accuracy_reward(texts, prompts=conversations, answer=["7", "7"], prefilled="<think>") == [0.0, 1.0]


def test_a_batch_that_mostly_cannot_be_graded_stops_the_run() -> None:
    with pytest.raises(CircuitBreakerError):
        accuracy_reward([r"\boxed{7}"] * 32, answer=["{{"] * 32)


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        accuracy_reward(["7", "8"], answer=["7"])


def test_importing_it_imports_no_framework() -> None:
    code = "import sys, polaris_reward.trl; print({'trl', 'torch', 'transformers', 'sympy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
