import importlib.util
import inspect
import logging
from concurrent.futures import ThreadPoolExecutor

import polaris_reward.verl
import pytest
from polaris_reward.errors import ReferencesError, SettingsError
from polaris_reward.verl import MAX_PRED_CHARS, compute_score


class Array:
    """What a list, or a number, of a Parquet file is to verl: it has `tolist`, as numpy's arrays have."""

    def __init__(self, value: object) -> None:
        self._value = value

    def tolist(self) -> object:
        return self._value


@pytest.mark.parametrize("ground_truth", ["7", 7, 7.0, ["6", "7"], [6, 7], Array(["6", "7"]), Array(7)])
def test_a_correct_completion_scores_one(ground_truth: object) -> None:
    score = compute_score(
        data_source="math", solution_str=r"\boxed{7}", ground_truth=ground_truth, extra_info={"index": 0}
    )
    assert score == {"score": 1.0, "acc": True, "outcome": "correct", "pred": "7"}


@pytest.mark.parametrize(
    ("response", "ground_truth", "outcome", "pred"),
    [
        (r"\boxed{8}", "7", "incorrect", "8"),
        ("", "7", "no_answer", ""),
        (r"\boxed{7}", "{{", "reference_rejected", "7"),
        (r"\boxed{7}", "", "reference_rejected", "7"),
        (r"\boxed{" + "7" * 10_000 + "}", "7", "answer_rejected", "7" * MAX_PRED_CHARS),
    ],
)
def test_every_other_completion_scores_zero_with_the_same_keys(
    response: str, ground_truth: str, outcome: str, pred: str
) -> None:
    score = compute_score("math", response, ground_truth)
    assert score == {"score": 0.0, "acc": False, "outcome": outcome, "pred": pred}
    assert [type(value) for value in score.values()] == [float, bool, str, str]


def test_a_reference_that_cannot_be_read_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "polaris_reward.verl"):
        for answer in (1, 2, 3):
            compute_score("math", rf"\boxed{{{answer}}}", "{{{{")
    (record,) = caplog.records
    assert "'{{{{'" in record.getMessage()


@pytest.mark.parametrize("ground_truth", [None, [], {"answer": "7"}, [["7"]]])
def test_data_prepared_in_another_way_is_refused(ground_truth: object) -> None:
    with pytest.raises(ReferencesError, match=r"reward_model\.ground_truth is "):
        compute_score("math", "7", ground_truth)


def test_answers_are_boxed_unless_another_policy_is_asked_for() -> None:
    assert compute_score.__name__ == "compute_score"
    assert compute_score("math", "So it is 7.", "7")["outcome"] == "no_answer"
    assert compute_score("math", "So it is 7.", "7", policy="default")["score"] == 1.0


def test_a_thought_that_the_chat_template_opened_and_nothing_closed_scores_zero() -> None:
    scores = [
        compute_score("math", text, "7", prefilled="<think>")["score"] for text in (r"\boxed{7}", r"</think>\boxed{7}")
    ]
    assert scores == [0.0, 1.0]


def test_a_policy_can_be_set_by_its_name() -> None:
    assert compute_score("math", r"\boxed{7}", "7", policy="polaris-v1")["outcome"] == "no_answer"
    with pytest.raises(SettingsError, match="unknown policy 'strict'; choose one of 'default', "):
        compute_score("math", r"\boxed{7}", "7", policy="strict")


def test_many_threads_may_score_at_once() -> None:
    # Of the second kind each needs a worker.
    texts = [rf"\boxed{{{form}}}" for form in (r"\frac{14}{2}", r"\int_0^7 1 \, dx", "8", r"\sum_{k=1}^{3} k") * 8]
    with ThreadPoolExecutor(16) as threads:
        scores = list(threads.map(lambda text: compute_score("math", text, "7")["score"], texts))
    assert scores == [1.0, 1.0, 0.0, 0.0] * 8


def test_the_file_can_be_loaded_by_its_path() -> None:
    spec = importlib.util.spec_from_file_location("custom_module", inspect.getfile(polaris_reward.verl))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.compute_score("math", r"\boxed{7}", "7")["score"] == 1.0
