"""Two trained models, merged from the command line: what the real engine says of the average of their weights."""

import json

import pytest
import torch
from polaris_data import synthetic_problems, to_prompt
from polaris_data.problems import find
from polaris_rollout import Prompt, SamplingParams, encode_prompts
from polaris_rollout.engines.parity import group_logprobs
from polaris_train.embedded import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ALPHA = 0.5
PARAMS = SamplingParams(temperature=1.2, max_tokens=48, seed=3)


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def train(folder, *, level, seed):
    """Write the embedded model after a few steps on the worked solutions of one level."""
    torch.manual_seed(seed)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model()), load(tiny_model())
    problems = synthetic_problems(32, seed=seed, split="train", levels=(level,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for problem, prompt in zip(problems, encode_prompts(tokenizer, list(map(to_prompt, problems))), strict=True):
        answer = tokenizer.encode(find(problem.extra, "solution"), add_special_tokens=False)
        ids = torch.tensor([[*prompt, *answer, tokenizer.eos_token_id]])
        labels = torch.cat([torch.full((1, len(prompt)), -100), ids[:, len(prompt) :]], dim=1)
        model(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_engine_samples_from_the_average_of_two_trained_models(command, tmp_path):
    from polaris_rollout.engines import VllmSampler

    parts = [train(tmp_path / name, level=level, seed=level) for name, level in (("A", 2), ("B", 5))]
    done = command("polaris-train", "merge", "A", "B", "--alpha", str(ALPHA), "--out", "merged", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [each["share"] for each in json.loads((tmp_path / "merged" / "merged.json").read_text())["parts"]] == [
        0.5
    ] * 2
    first, second, expected = load(parts[0]), load(parts[1]), load(parts[0])
    with torch.no_grad():
        for own, other in zip(expected.parameters(), second.parameters(), strict=True):
            own.mul_(ALPHA).add_(other, alpha=1 - ALPHA)
    problems = synthetic_problems(8, seed=7, split="held-out")
    prompts = [Prompt(problem_id=each.problem_id, text=to_prompt(each)) for each in problems]
    with VllmSampler(str(tmp_path / "merged"), context=512, max_in_flight=16) as sampler:
        groups = list(sampler.sample(prompts, PARAMS, n=4))
    gaps = {}
    for name, model in (("merged", expected), ("first", first), ("second", second)):
        with torch.no_grad():
            rows = [group_logprobs(model, group, PARAMS.temperature) for group in groups]
        gaps[name] = [
            abs(drawn - right)
            for group, own in zip(groups, rows, strict=True)
            for completion, row in zip(group.completions, own, strict=True)
            for drawn, right in zip(completion.logprobs, row, strict=True)
        ]
    assert len(gaps["merged"]) > 300 and max(gaps["merged"]) < 1e-4
    assert min(sum(gaps[name]) / len(gaps[name]) for name in ("first", "second")) > 0.01
