"""Rank 0 samples with the engines of all ranks: each prompt once, in as many rounds as it takes."""

import json
import subprocess
import sys

NUM_RANKS, NUM_PROMPTS = 3, 20

RANK = """
import json
import sys
from pathlib import Path

import torch.distributed as dist
from polaris_rollout import Completion, Group, Prompt, SamplingParams
from polaris_rollout.sharing.work import SharedSampler
from polaris_train.stage import all_engines

folder, rank, num_ranks, num_prompts = Path(sys.argv[1]), *map(int, sys.argv[2:])
dist.init_process_group("gloo", init_method=f"file://{folder / 'ranks'}", rank=rank, world_size=num_ranks)
all_engines.PROMPTS_PER_RANK = 3


class Engine:
    def sample(self, prompts, params, *, n):
        for prompt in prompts:
            answers = tuple(
                Completion(token_ids=(rank,), logprobs=(0.0,), text=f"{params.seed}", finish_reason="stop")
                for _ in range(n)
            )
            yield Group(problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=answers)


shared = SharedSampler(Engine(), dist.FileStore(str(folder / "work"), num_ranks), rank=rank)
seen = []
for seed in (7, 8):
    with all_engines.all_engines(shared) as sampler:
        if sampler is not None:
            drawn = 0

            def prompts():
                global drawn
                for index in range(num_prompts):
                    drawn += 1
                    yield Prompt(problem_id=str(index), text="")

            for group in sampler.sample(prompts(), SamplingParams(seed=seed), n=2):
                seen.append((group.problem_id, [each.text for each in group.completions], drawn))
(folder / f"{rank}.json").write_text(json.dumps(seen))
dist.destroy_process_group()
"""


def test_rank_0_gets_every_group_once_and_the_others_nothing(tmp_path):
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path), str(rank), str(NUM_RANKS), str(NUM_PROMPTS)],
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(NUM_RANKS)
    ]  # fmt: skip
    said = [process.communicate(timeout=200)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0] * NUM_RANKS, said
    seen, *others = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(NUM_RANKS))
    assert others == [[], []]
    for seed, request in ((7, seen[:NUM_PROMPTS]), (8, seen[NUM_PROMPTS:])):
        assert sorted(int(problem_id) for problem_id, _, _ in request) == list(range(NUM_PROMPTS))
        assert all(texts == [f"{seed}"] * 2 for _, texts, _ in request)
        # In rounds of three prompts for each rank, so that what a round gave is safe before the next.
        assert [drawn for _, _, drawn in request] == [9] * 9 + [18] * 9 + [20] * 2
