"""One model on two processes, and two such engines in one launch: the same tokens as from one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path

import torch
from polaris_rollout import Prompt, SamplingParams
from polaris_rollout.engines.parity import check_parity, group_logprobs
from polaris_rollout.errors import SettingError
from polaris_rollout.engines.vllm import VllmSampler
from polaris_train.embedded import tiny_model
from transformers import AutoModelForCausalLM

PARAMS = SamplingParams(temperature=1.3, max_tokens=48, seed=11)


def sample(sampler, problems):
    prompts = [Prompt(problem_id=str(each), text=f"What is {each} + 25?") for each in problems]
    return {
        group.problem_id: [each.token_ids for each in group.completions]
        for group in sampler.sample(prompts, PARAMS, n=4)
    }


if __name__ == "__main__":
    out, tensor_parallel = Path(sys.argv[1]), int(sys.argv[2])
    rank = int(os.environ.get("RANK", "0"))
    per_rank = "RANK" in os.environ
    if per_rank:
        torch.distributed.init_process_group("gloo")
    # Both ranks of an engine ask for the same; the engines for different problems, and not as many.
    problems = [range(12), range(12, 16)][rank // tensor_parallel]
    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    policy = lambda groups, temperature: [group_logprobs(model, group, temperature) for group in groups]
    with VllmSampler("tiny", context=256, tensor_parallel=tensor_parallel, per_rank=per_rank) as sampler:
        found = {"before": sample(sampler, problems)}
        check_parity(sampler, policy)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        try:
            sampler.update_weights(model.named_parameters())
            check_parity(sampler, policy)
            found["after"] = sample(sampler, problems)
        except SettingError as error:
            found["refused"] = str(error)
    (out / f"{rank}.json").write_text(json.dumps(found))
"""


def run(folder, command):
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, timeout=500, check=True, capture_output=True)
    return [json.loads((folder / path).read_text()) for path in sorted(folder.glob("*.json"))]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process samples for the first and for the second engine's problems."""
    folder = tmp_path_factory.mktemp("alone") / "first"
    (first,) = run(folder, [sys.executable, "program.py", ".", "1"])
    return first


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_engines_of_two_ranks_sample_what_one_process_samples(alone, tmp_path):
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    ranks = run(tmp_path / "ranks", [torchrun, "--standalone", "--nproc-per-node", "4", "program.py", ".", "2"])
    assert ranks[0] == ranks[1] == alone
    assert ranks[2] == ranks[3]
    assert sorted(ranks[2]["before"]) == sorted(ranks[2]["after"]) == ["12", "13", "14", "15"]
    assert ranks[2]["before"] != ranks[2]["after"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_engine_with_processes_of_its_own_samples_the_same_and_takes_no_weights(alone, tmp_path):
    (found,) = run(tmp_path / "own", [sys.executable, "program.py", ".", "2"])
    assert found["before"] == alone["before"]
    assert "torchrun" in found["refused"]
