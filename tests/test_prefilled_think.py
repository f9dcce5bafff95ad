"""A model whose chat template opens the thinking: what it never closes is no answer, wherever it is graded."""

import json
import shutil

import pytest
from polaris_data import Journal, read_profile, synthetic_problems
from polaris_data.profile import count_completions, profile
from polaris_data.profile.rollouts import ProfileRollouts
from polaris_eval import evaluate
from polaris_eval.running.graded import grade_file
from polaris_reward import boxed_grader
from polaris_rollout import SamplingParams, prefilled_think, render_prompt
from polaris_train.embedded import tiny_model
from transformers import AutoTokenizer

PROBLEMS = synthetic_problems(6, seed=3, split="held-out", levels=(1,))
PARAMS = SamplingParams(max_tokens=120, seed=1)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    """Copy the embedded model, with a template that ends as those of many reasoning models do."""
    folder = shutil.copytree(tiny_model(), tmp_path_factory.mktemp("models") / "thinker")
    template = folder / "chat_template.jinja"
    text = template.read_text()
    assert text.count("'<|im_start|>assistant\n'") == 1
    template.write_text(text.replace("'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>\n'"))
    return folder


def test_the_template_tells_what_it_opens(thinker):
    for folder, tag in ((thinker, "<think>\n"), (tiny_model(), "")):
        prompt = render_prompt(AutoTokenizer.from_pretrained(folder), "1 + 1 = ?")
        assert "1 + 1 = ?" in prompt
        assert prefilled_think(prompt) == tag


def test_a_file_is_graded_as_the_template_of_its_model_says(thinker, tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [{"id": n, "response": text, "answer": "7"} for n, text in enumerate([r"\boxed{7}", r"</think>\boxed{7}"])]
    for number, (count, expected) in enumerate([(1, 0.0), (2, 0.5)]):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
        found = grade_file(path, name="x", model="thinker", out=tmp_path / f"{number}", tokenizer=str(thinker))
        assert found.score("mean@k").value == expected
    path.write_text(json.dumps(rows[0]) + "\n")
    found = grade_file(path, name="x", model="tiny", out=tmp_path / "plain", tokenizer=str(tiny_model()))
    assert found.score("mean@k").value == 1


@pytest.mark.slow
def test_a_thought_that_is_never_closed_earns_nothing_in_evaluation_and_profile_and_when_graded_again(
    thinker, tmp_path
):
    from polaris_rollout.engines import VllmSampler  # not while tests are collected: others watch who loads it

    with VllmSampler(str(thinker), context=512, max_in_flight=64) as sampler, boxed_grader(1) as grader:
        journal = Journal(tmp_path / "completions.jsonl")
        measured = evaluate("sums", PROBLEMS, sampler, grader.grade_many, params=PARAMS, num_samples=4, journal=journal)
        with ProfileRollouts(tmp_path / "rollouts", {}, PARAMS) as rollouts:
            profiled = list(
                profile(
                    PROBLEMS, sampler, grader.grade_many, params=PARAMS, num_samples=4,
                    journal=Journal(tmp_path / "profile.jsonl"), rollouts=rollouts,
                )
            )  # fmt: skip
    texts = [each["text"] for record in journal.records for each in record["completions"]]
    boxed = [text for text in texts if "\\boxed{" in text]
    assert boxed, "the test says nothing if the model gives no answer"
    assert not any("</think>" in text for text in texts)
    assert measured.outcomes == {"no_answer": 24}
    assert [each.num_correct for each in profiled] == [0] * 6
    again = grade_file(tmp_path / "completions.jsonl", name="sums", model="thinker", out=tmp_path / "again")
    assert again.outcomes == {"no_answer": 24}
    count_completions(PROBLEMS, tmp_path / "rollouts", tmp_path / "again.jsonl", wanted={})
    assert [each.num_correct for each in read_profile(tmp_path / "again.jsonl")] == [0] * 6
