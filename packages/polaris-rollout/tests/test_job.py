"""A file of prompts, and sampling what a store does not hold yet."""

import pytest
from polaris_rollout import Completion, Group, Prompt, SamplingParams, StoreError
from polaris_rollout.store.folder import RolloutStore, read_store
from polaris_rollout.store.resume import read_prompts, sample_missing

PARAMS = SamplingParams(temperature=0.5, seed=3)


class Echo:
    """Answers every prompt with its own text, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def sample(self, prompts, params, *, n):
        for prompt in prompts:
            self.asked.append(prompt.problem_id)
            answer = Completion(token_ids=(7,), logprobs=(-0.5,), text=prompt.text, finish_reason="stop")
            yield Group(problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=(answer,) * n)


def test_a_job_continues_with_what_is_not_in_its_store(tmp_path):
    prompts = [Prompt(problem_id=name, text=name * 2) for name in "abcd"]
    first, second = Echo(), Echo()
    with pytest.raises(KeyboardInterrupt), RolloutStore(tmp_path) as store:
        for group in sample_missing(store, prompts, first, PARAMS, num_samples=2):
            assert store.finished >= {group.problem_id}
            if group.problem_id == "b":
                raise KeyboardInterrupt
    assert first.asked == ["a", "b"]
    with RolloutStore(tmp_path) as store:
        assert store.finished == {"a", "b"}
        assert len(list(sample_missing(store, prompts, second, PARAMS, num_samples=2))) == 2
    assert second.asked == ["c", "d"]
    stored = list(read_store(tmp_path))
    assert [group.problem_id for group in stored] == ["a", "b", "c", "d"]
    assert [completion.text for completion in stored[3].completions] == ["dd", "dd"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"id": "a", "question": "x"}\n{"id": "a", "question": "y"}\n', ":2: id 'a' occurs twice"),
        ('{"id": "a", "question": "x"}\n{"id": "b"', ":2: not JSON"),
        ('{"id": "a", "text": "x"}\n', "found"),
        ("[1]\n", "found"),
        ("\n", "holds no prompts"),
    ],
)
def test_a_malformed_file_of_prompts_is_refused_with_the_line(tmp_path, text, part):
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(StoreError, match=part):
        read_prompts(path)


def test_a_missing_file_of_prompts_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no file"):
        read_prompts(tmp_path / "none.jsonl")


def test_prompts_carry_the_suffix(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"problem_id": "a", "problem": "1+1?"}\n')
    assert read_prompts(path, suffix=" Think.") == [Prompt(problem_id="a", text="1+1? Think.")]


def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path):
    """Public files have U+2028 and U+0085 inside their texts, which JSON allows."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"id": "a", "problem": "one\u2028two\u0085three"}\r\n{"id": "b", "problem": "x"}\n', encoding="utf-8"
    )
    assert [prompt.text for prompt in read_prompts(path)] == ["one\u2028two\u0085three", "x"]
