"""Adapters and the real engine: merged on the way into it, and alone as vLLM itself loads them."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from polaris_data import synthetic_problems, to_prompt
from polaris_rollout import Prompt, SamplingParams
from polaris_rollout.engines import check_parity, parity
from polaris_rollout.errors import ParityError
from polaris_train.embedded import tiny_model
from polaris_train.model import load_policy, save_policy
from polaris_train.model.adapters import is_adapter
from polaris_train.recipe.tables import Lora
from polaris_train.stage.engine import policy_logprobs
from torch.distributed.tensor import distribute_tensor
from transformers import AutoModelForCausalLM

PARAMS = SamplingParams(temperature=1.4, max_tokens=64, seed=1)
RANK = 8


@pytest.fixture(scope="module")
def policy():
    """The embedded model with adapters that change what it says."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    policy = load_policy(str(tiny_model()), device=torch.device("cpu"), context=512, lora=Lora(rank=RANK))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if is_adapter(name):
                noise = 0.05 * torch.randn(parameter.shape, generator=generator)
                parameter.add_(distribute_tensor(noise, parameter.device_mesh))
    yield policy
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def exported(policy, tmp_path_factory):
    """Their folder, beside the merged model."""
    folder = tmp_path_factory.mktemp("exported")
    save_policy(policy, folder / "model", source=str(tiny_model()), adapters=folder / "model" / "adapter")
    return folder / "model"


@pytest.mark.usefixtures("exported")  # Which takes the process group, and an engine that ends takes it away.
def test_the_engine_passes_the_canary_with_merged_adapters_at_a_temperature_of_its_own(policy, monkeypatch):
    from polaris_rollout.engines import VllmSampler

    monkeypatch.setattr(parity, "CANARY_PARAMS", replace(parity.CANARY_PARAMS, temperature=PARAMS.temperature))
    problems = synthetic_problems(8, seed=3, split="held-out")
    prompts = [Prompt(problem_id=problem.problem_id, text=to_prompt(problem)) for problem in problems]
    with VllmSampler("tiny", context=512, max_in_flight=32) as sampler:
        with pytest.raises(ParityError):
            check_parity(sampler, policy_logprobs(policy))
        sampler.update_weights(policy.weights())
        assert check_parity(sampler, policy_logprobs(policy)) < 1e-6
        groups = list(sampler.sample(prompts, PARAMS, n=4))
        expected = policy_logprobs(policy)(groups, PARAMS.temperature)
    gaps = [
        abs(drawn - right)
        for group, rows in zip(groups, expected, strict=True)
        for completion, row in zip(group.completions, rows, strict=True)
        for drawn, right in zip(completion.logprobs, row, strict=True)
    ]
    assert len(gaps) > 500
    assert max(gaps) < 1e-4  # rounding of the merged weight; 1.5e-5 was seen


def test_vllm_serves_the_adapters_alone_as_the_merged_model(exported):
    from polaris_rollout.engines.vllm import vllm
    from vllm.lora.request import LoRARequest

    ids = list(range(5, 60))
    llm = vllm.LLM(
        str(tiny_model()), enable_lora=True, max_lora_rank=RANK, enforce_eager=True, dtype="float32", max_model_len=512
    )
    params = vllm.SamplingParams(max_tokens=1, prompt_logprobs=0)
    request = LoRARequest("adapters", 1, str(exported / "adapter"))
    (alone,) = llm.generate([{"prompt_token_ids": ids}], params, lora_request=request, use_tqdm=False)
    (without,) = llm.generate([{"prompt_token_ids": ids}], params, use_tqdm=False)
    merged = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    with torch.no_grad():
        whole = merged(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    right = whole.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]

    def of(answer):
        return torch.tensor(
            [row[token].logprob for row, token in zip(answer.prompt_logprobs[1:], ids[1:], strict=True)]
        )

    assert (of(alone) - right).abs().max() < 1e-4
    assert (of(without) - right).abs().max() > 0.1
