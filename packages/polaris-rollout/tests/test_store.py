"""Groups on disk, and the folder that a sampling job fills."""

import pytest
from polaris_rollout import Completion, Group, Prompt, SamplingParams, StoreError, completion_seed
from polaris_rollout.job import open_folder, read_prompts, sample_to_folder
from polaris_rollout.progress import track
from polaris_rollout.store import read_columns, read_groups, write_groups

PARAMS = SamplingParams(temperature=0.5, seed=3)


def group(problem_id, *texts):
    return Group(
        problem_id=problem_id,
        prompt_token_ids=(1, 2, len(problem_id)),
        completions=tuple(
            Completion(token_ids=(7, 8), logprobs=(-0.5, -0.25), text=text, finish_reason="stop") for text in texts
        ),
    )


def test_groups_come_back_as_they_were_written(tmp_path):
    groups = [group("b", "x", "ü"), group("a", "", "z")]
    path = tmp_path / "deep" / "groups.parquet"
    write_groups(path, groups, PARAMS, columns={"answer": [None, "1", "2", None]})
    assert read_groups(path) == groups
    assert read_columns(path, ["answer", "seed"]) == {
        "answer": [None, "1", "2", None],
        "seed": [completion_seed(3, problem_id, sample) for problem_id in "ba" for sample in (0, 1)],
    }
    assert [each.name for each in path.parent.iterdir()] == ["groups.parquet"]


class Echo:
    """Answers every prompt with its own text, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def sample(self, prompts, params, *, n):
        for prompt in prompts:
            self.asked.append(prompt.problem_id)
            yield group(prompt.problem_id, *[prompt.text] * n)


def test_a_job_continues_with_what_is_not_in_its_folder(tmp_path):
    prompts = [Prompt(problem_id=name, text=name * 2) for name in "abcd"]
    first, second = Echo(), Echo()
    assert open_folder(tmp_path, {"model": "m"}) == set()
    assert len(list(track(sample_to_folder(tmp_path, prompts[:2], first, PARAMS, num_samples=2), total=4))) == 2
    done = open_folder(tmp_path, {"model": "m"})
    assert done == {"a", "b"}
    left = [prompt for prompt in prompts if prompt.problem_id not in done]
    list(sample_to_folder(tmp_path, left, second, PARAMS, num_samples=2))
    assert second.asked == ["c", "d"]
    stored = [each.problem_id for part in sorted(tmp_path.glob("*.parquet")) for each in read_groups(part)]
    assert stored == ["a", "b", "c", "d"]


def test_a_folder_of_another_job_is_refused(tmp_path):
    open_folder(tmp_path, {"model": "m", "seed": 0})
    with pytest.raises(StoreError, match="seed"):
        open_folder(tmp_path, {"model": "m", "seed": 1})


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
