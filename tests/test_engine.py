"""The real engine on the embedded model: seeds, log-probabilities, weight updates, the canary."""

import inspect
import threading
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from polaris_data import synthetic_problems, to_prompt
from polaris_rollout import (
    ChatFormat,
    Prompt,
    PromptTooLongError,
    SamplingParams,
    encode_prompt,
    encode_prompts,
    model_digest,
)
from polaris_rollout.engines import check_parity
from polaris_rollout.engines.parity import CANARY_PROMPTS, group_logprobs, transformers_logprobs
from polaris_rollout.errors import ModelError, ParityError, SettingError
from polaris_rollout.models import stop_token_ids
from polaris_train.embedded import tiny_model
from polaris_train.model import load_policy
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage import engine as stage_engine
from polaris_train.stage.heartbeat import Heartbeat
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

PARAMS = SamplingParams(temperature=1.3, max_tokens=64, seed=11)


@pytest.fixture(scope="module")
def sampler():
    from polaris_rollout.engines import VllmSampler  # not while tests are collected: others watch who loads it

    with VllmSampler("tiny", context=512, max_in_flight=128) as sampler:
        yield sampler


@pytest.fixture(scope="module")
def prompts():
    problems = synthetic_problems(16, seed=3, split="held-out")
    return [Prompt(problem_id=problem.problem_id, text=to_prompt(problem)) for problem in problems]


@pytest.fixture(scope="module")
def groups(sampler, prompts):
    return {group.problem_id: group for group in sampler.sample(prompts, PARAMS, n=8)}


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)


def logprobs_one_by_one(model, group, truncate=()):
    """An independent formulation: one completion at a time, no padding, truncation as transformers does it."""
    prompt = list(group.prompt_token_ids)
    logprobs = []
    for completion in group.completions:
        with torch.no_grad():
            scores = model(torch.tensor([prompt + list(completion.token_ids)])).logits[0, len(prompt) - 1 : -1]
        scores = scores / PARAMS.temperature
        for warper in truncate:
            scores = warper(None, scores)
        logprobs.append(scores.log_softmax(-1).gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0].tolist())
    return logprobs


def largest_gap(model, groups, truncate=()):
    return max(
        abs(ours - theirs)
        for group in groups
        for completion, expected in zip(group.completions, logprobs_one_by_one(model, group, truncate), strict=True)
        for ours, theirs in zip(completion.logprobs, expected, strict=True)
    )


def reference_of(model):
    return lambda groups, temperature: [group_logprobs(model, group, temperature) for group in groups]


def perturbed(model, scale):
    torch.manual_seed(0)
    other = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return other.eval()


def test_the_same_request_gives_the_same_bits_again(sampler, prompts, groups):
    assert {group.problem_id: group for group in sampler.sample(prompts, PARAMS, n=8)} == groups


def test_a_completion_has_the_same_bits_whatever_else_is_in_flight(sampler, monkeypatch):
    """Tokens and log-probabilities. With two threads or more: how work is split over them is what it may depend on."""
    problems = synthetic_problems(96, seed=3, split="held-out")
    prompts = [Prompt(problem_id=problem.problem_id, text=to_prompt(problem)) for problem in problems]
    seen = {}
    for num_in_flight, some in [(96, prompts), (8, prompts), (96, prompts[::-1]), (1, prompts[:8])]:
        monkeypatch.setattr(sampler, "max_in_flight", num_in_flight)
        for group in sampler.sample(some, PARAMS, n=1):
            assert group == seen.setdefault(group.problem_id, group)


def test_the_first_completions_of_a_group_do_not_depend_on_how_many_follow(sampler, prompts, groups):
    fewer = next(sampler.sample(prompts[5:6], PARAMS, n=3))
    assert fewer.completions == groups[fewer.problem_id].completions[:3]


def test_another_seed_gives_other_completions(sampler, prompts, groups):
    other = SamplingParams(temperature=1.3, max_tokens=64, seed=12)
    for group in sampler.sample(prompts[:4], other, n=8):
        assert group.completions != groups[group.problem_id].completions


def test_a_caller_may_stop_early_and_sample_again(sampler, prompts, groups):
    stream = sampler.sample(prompts, PARAMS, n=8)
    next(stream)
    stream.close()
    assert next(sampler.sample(prompts[:1], PARAMS, n=8)) == groups[prompts[0].problem_id]


def test_one_request_at_a_time(sampler, prompts, model):
    stream = sampler.sample(prompts, PARAMS, n=8)
    next(stream)
    with pytest.raises(RuntimeError, match="still going on"):
        next(sampler.sample(prompts, PARAMS, n=8))
    with pytest.raises(RuntimeError, match="still going on"):
        sampler.update_weights(model.named_parameters())
    stream.close()


def test_another_thread_sees_what_the_engine_does(sampler, prompts):
    seen, done = [], threading.Event()

    def look():
        while not done.wait(0.002):
            seen.extend(sampler.status())

    (before,) = sampler.status()
    thread = threading.Thread(target=look)
    thread.start()
    num_tokens = sum(
        len(each.token_ids) for group in sampler.sample(prompts, PARAMS, n=8) for each in group.completions
    )
    done.set()
    thread.join()
    (after,) = sampler.status()
    busy = [status for status in seen if status.state == "sampling"]
    assert max(status.running for status in busy) == sampler.max_in_flight
    assert 1 < max(status.longest_running for status in busy) <= PARAMS.max_tokens
    assert any(before.sampled_tokens < status.sampled_tokens < before.sampled_tokens + num_tokens for status in busy)
    assert after.sampled_tokens == before.sampled_tokens + num_tokens
    assert (after.name, after.state, after.running, after.waiting, after.longest_running) == ("engine", "idle", 0, 0, 0)


def test_logprobs_are_those_of_transformers_at_the_sampling_temperature(model, groups):
    assert largest_gap(model, list(groups.values())[:4]) < 1e-5


@pytest.mark.parametrize(
    ("cut", "warpers"),
    [
        ({"top_k": 5}, [TopKLogitsWarper(5)]),
        ({"top_p": 0.8}, [TopPLogitsWarper(0.8)]),
        ({"top_k": 20, "top_p": 0.9}, [TopKLogitsWarper(20), TopPLogitsWarper(0.9)]),
        ({"min_p": 0.2}, [MinPLogitsWarper(0.2)]),
    ],
)
def test_logprobs_of_a_truncated_distribution_are_those_of_that_distribution(sampler, prompts, model, cut, warpers):
    params = SamplingParams(temperature=PARAMS.temperature, max_tokens=64, **cut)
    some = list(sampler.sample(prompts[:4], params, n=4))
    assert largest_gap(model, some, warpers) < 1e-4
    assert largest_gap(model, some) > 0.01


def test_a_stop_string_ends_a_completion_and_stays_out_of_its_text(sampler, prompts, groups):
    stop = "="
    cut = {group.problem_id: group for group in sampler.sample(prompts, replace(PARAMS, stop=(stop, "@@")), n=8)}
    pairs = [pair for name in groups for pair in zip(groups[name].completions, cut[name].completions, strict=True)]
    assert any(stop in whole.text for whole, _ in pairs)
    for whole, ended in pairs:
        assert ended.text == whole.text.partition(stop)[0]
        assert ended.token_ids == whole.token_ids[: len(ended.token_ids)]
        assert ended.finish_reason == ("stop" if stop in whole.text else whole.finish_reason)


def test_what_stands_around_a_question_is_what_the_model_sees():
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    asked = encode_prompt(tokenizer, "2 + 2?", ChatFormat(system_prompt="Be brief."))
    user = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(asked) == f"<|im_start|>system\nBe brief.<|im_end|>\n{user}"
    assert tokenizer.decode(encode_prompt(tokenizer, "2 + 2?")) == user
    for chat in (ChatFormat(), ChatFormat(is_plain=True)):
        together = encode_prompts(tokenizer, ["2 + 2?", "", "7 x 8"], chat)
        assert together == [encode_prompt(tokenizer, text, chat) for text in ("2 + 2?", "", "7 x 8")]
    assert encode_prompts(tokenizer, []) == []
    assert tokenizer.decode(encode_prompt(tokenizer, "2 + 2?", ChatFormat(is_plain=True))) == "2 + 2?"


def test_a_template_that_leaves_out_or_refuses_the_system_prompt_is_found_out():
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(ModelError, match=r"leaves out the system prompt 'Be brief\.'"):
        encode_prompt(tokenizer, "2 + 2?", ChatFormat(system_prompt="Be brief."))
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(ModelError, match="System role not supported"):
        encode_prompt(tokenizer, "2 + 2?", ChatFormat(system_prompt="Be brief."))


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ('{"eos_token_id": [2, 0]}', "{}", [2, 0]),
        ('{"eos_token_id": 7}', "{}", [7]),
        (None, '{"eos_token_id": 3}', [3]),
    ],
)
def test_answers_end_where_the_generation_config_or_else_the_config_says(tmp_path, generation, config, expected):
    (tmp_path / "config.json").write_text(config)
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(generation)
    assert stop_token_ids(str(tmp_path)) == expected


def test_finish_reasons_tell_a_full_answer_from_a_cut_one(sampler, prompts):
    cut = next(sampler.sample(prompts[:1], SamplingParams(max_tokens=2), n=4))
    assert {completion.finish_reason for completion in cut.completions} == {"length"}
    assert {len(completion.token_ids) for completion in cut.completions} == {2}
    whole = next(sampler.sample(prompts[:1], SamplingParams(seed=1), n=4))
    assert {completion.finish_reason for completion in whole.completions} == {"stop"}


def test_a_prompt_without_room_for_an_answer_is_listed(sampler):
    long = Prompt(problem_id="long", text="word " * 2000)
    with pytest.raises(PromptTooLongError, match="'long'"):
        sampler.check_prompts([long])
    with pytest.raises(PromptTooLongError, match="'long'"):
        list(sampler.sample([long], PARAMS, n=1))


def test_the_canary_passes_an_engine_that_holds_the_model(sampler):
    assert sampler.dtype == "float32"
    assert check_parity(sampler, transformers_logprobs("tiny", context=sampler.context)) < 1e-6


def test_the_canary_finds_other_weights_and_names_them(sampler, model):
    with pytest.raises(ParityError, match=rf"mean .*above 0\.01 .*'{model_digest(str(tiny_model()))}'"):
        check_parity(sampler, reference_of(perturbed(model, 0.02)))


def test_the_canary_finds_a_small_error_where_float32_allows_none(sampler, model):
    with pytest.raises(ParityError, match=r"float32 .*above 0\.001"):
        check_parity(sampler, reference_of(perturbed(model, 0.0005)))


def test_the_canary_finds_logprobs_of_another_temperature(sampler, model):
    with pytest.raises(ParityError, match="temperature"):
        check_parity(sampler, lambda groups, temperature: reference_of(model)(groups, 1.0))


def test_the_canary_finds_what_is_not_a_number(sampler):
    def nothing(groups, temperature):
        return [[[float("nan")] * len(each.token_ids) for each in group.completions] for group in groups]

    with pytest.raises(ParityError, match="is nan"):
        check_parity(sampler, nothing)


def test_the_canary_compares_again_before_it_refuses_and_says_what(sampler, model, caplog):
    references = iter([reference_of(perturbed(model, 0.02)), reference_of(model)])
    assert check_parity(sampler, lambda groups, temperature: next(references)(groups, temperature)) < 1e-6
    assert "tokens of 2 answers to each of 4 fixed prompts at temperature 1.25" in caplog.text
    assert "comparing once more" in caplog.text


def test_new_weights_change_the_distribution_at_once(sampler, prompts, model, groups):
    """Before the last two in the file: updates are counted."""
    changed_model = perturbed(model, 0.02)
    version = sampler.weights_version
    sampler.update_weights(changed_model.named_parameters())
    assert sampler.weights_version == f"{version}+1"
    changed = list(sampler.sample(prompts[:4], PARAMS, n=8))
    assert {group.weights_version for group in changed} == {f"{version}+1"}
    assert largest_gap(changed_model, changed) < 1e-4
    assert changed != [groups[group.problem_id] for group in changed]
    check_parity(sampler, reference_of(changed_model))
    sampler.update_weights(model.named_parameters(), version="step 0")
    assert sampler.weights_version == "step 0"
    check_parity(sampler, reference_of(model))


class HostAllocator:
    """vLLM's allocator of a GPU, by its interface: what is put to sleep on the host loses its contents."""

    def __init__(self, memory):
        self.memory, self.held = memory, set(memory)
        self.asked, self.fails_at = [], None

    def sleep(self, offload_tags=None):
        assert not {"weights", "kv_cache"} & set(offload_tags)
        for tag in self.held:
            for tensor in self.memory[tag]:
                tensor.data.zero_()
        self.held = set()
        self.asked.append("sleep")

    def wake_up(self, tags=None):
        self.asked.append(("wake up", *tags))
        if self.fails_at in tags:
            raise RuntimeError("CUDA Error: out of memory")  # as vLLM's says it
        self.held |= set(tags)


@pytest.fixture
def allocator(sampler, model, monkeypatch):
    """Let the engine on this CPU sleep as one on a GPU does: all is vLLM's own but the memory."""
    import vllm.device_allocator
    from vllm.device_allocator.sleep_mode_backend import CuMemBackend

    executor = sampler._llm.llm_engine.engine_core.engine_core.model_executor
    worker, backend = executor.driver_worker.worker, CuMemBackend()
    weights = list(worker.get_model().parameters())
    found = HostAllocator({"weights": weights, "kv_cache": worker.model_runner.kv_caches})
    monkeypatch.setattr(vllm.device_allocator, "get_mem_allocator_instance", lambda: found)
    monkeypatch.setattr(worker, "sleep", backend.suspend)
    monkeypatch.setattr(worker, "wake_up", backend.resume)
    monkeypatch.setattr(sampler, "_can_sleep", True)
    yield found
    found.fails_at = None
    sampler.wake()
    sampler.update_weights(model.named_parameters(), version=model_digest(str(tiny_model())))


def gathered(model, allocator):
    """Yield the weights as a trainer does, who has no room for the answers' memory meanwhile."""
    assert allocator.held == {"weights"}
    for number, (name, weight) in enumerate(model.named_parameters()):
        if number == 3:
            allocator.asked.append("weights are gathered")
        assert allocator.held == {"weights"}
        yield name, weight


def test_memory_for_answers_is_taken_when_the_weights_are_there(sampler, model, allocator):
    sampler.sleep()
    assert allocator.held == set()
    sampler.wake()
    sampler.update_weights(gathered(model, allocator), version="awake")
    assert allocator.asked == ["sleep", ("wake up", "weights"), "weights are gathered", ("wake up", "kv_cache")]
    assert allocator.held == {"weights", "kv_cache"}
    check_parity(sampler, reference_of(model))
    sampler.wake()  # is awake
    sampler.update_weights(model.named_parameters(), version="again")
    assert len(allocator.asked) == 4


@pytest.mark.parametrize("sleeps_again", [False, True])
@pytest.mark.parametrize("place", ["weights", "kv_cache"])
def test_an_engine_that_could_not_be_woken_says_so_and_is_woken_the_next_time(
    sampler, model, allocator, place, sleeps_again
):
    changed, version = perturbed(model, 0.02), sampler.weights_version
    sampler.sleep()
    allocator.fails_at = place
    with pytest.raises(RuntimeError, match="out of memory"):
        sampler.wake()
        sampler.update_weights(gathered(changed, allocator), version="never")
    assert "kv_cache" not in allocator.held and sampler.weights_version == version
    with pytest.raises(RuntimeError, match=r"the engine is asleep: call wake\(\) and then update_weights\(\) first"):
        next(sampler.sample(CANARY_PROMPTS, PARAMS, n=1))
    allocator.fails_at = None
    if sleeps_again:
        sampler.sleep()
        assert allocator.held == set()
    sampler.wake()
    sampler.update_weights(gathered(changed, allocator), version="changed")
    assert allocator.held == {"weights", "kv_cache"} and sampler.weights_version == "changed"
    check_parity(sampler, reference_of(changed))


def test_the_allocator_of_these_tests_has_the_interface_of_vllms():
    from vllm.device_allocator.cumem import CuMemAllocator

    for name in ("sleep", "wake_up"):
        ours, theirs = (inspect.signature(getattr(each, name)) for each in (HostAllocator, CuMemAllocator))
        assert [(each.name, each.default) for each in ours.parameters.values()] == [
            (each.name, each.default) for each in theirs.parameters.values()
        ]


class Forgetful:
    """The engine, but for so many updates that reach everything except the tied head's copy."""

    def __init__(self, sampler, *, times):
        self._sampler, self._times = sampler, times

    def __getattr__(self, name):
        return getattr(self._sampler, name)

    def update_weights(self, weights, *, version):
        self._times -= 1
        if self._times < 0:
            return self._sampler.update_weights(weights, version=version)
        self._sampler._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self._sampler._llm.reset_prefix_cache()


@pytest.fixture
def awake(sampler, model, monkeypatch, tmp_path):
    """Open a stage's engine, which forgets so often, with weights that it does not hold yet; put its own back later."""
    perturbed(model, 0.02).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(tiny_model()).save_pretrained(tmp_path / "model")
    policy = load_policy(str(tmp_path / "model"), device=torch.device("cpu"), context=512)
    values = {"problems": "synthetic", "problems_sha256": "", "context": 512, "max_prompt_tokens": 64, "steps": 1}

    @contextmanager
    def opened(*, times, **settings):
        engine = Forgetful(sampler, times=times)
        monkeypatch.setattr(stage_engine, "_open_engine", lambda *_, **__: nullcontext(engine))
        config = ResolvedStage(run="run", stage="stage", model="tiny", temperature=1, **values | settings)
        heart = Heartbeat(dist.HashStore(), StageFolder(tmp_path), stall_limit_s=config.stall_limit_s)
        with (
            ExitStack() as stack,
            stage_engine.StageEngine(config, policy, stack, dist.HashStore(), heart).awake(0) as sampling,
        ):
            yield sampling

    yield opened
    sampler.update_weights(model.named_parameters(), version=model_digest(str(tiny_model())))


def test_a_stage_gives_its_engine_the_weights_again_before_it_refuses_it(awake, caplog):
    refusal = r"mean .* tokens of 2 answers to each of 4 fixed prompts .* canary = false in a recipe"
    with pytest.raises(ParityError, match=refusal), awake(times=2):
        pass
    with awake(times=2, canary=False) as sampling:
        assert len(list(sampling.sample(CANARY_PROMPTS, PARAMS, n=1))) == len(CANARY_PROMPTS)
    assert caplog.text.count("rank 0: mean |p_engine - p_reference|") == 4
    with awake(times=1):
        assert caplog.text.count("rank 0: mean |p_engine - p_reference|") == 5


def test_the_canary_finds_a_stale_tied_head(sampler, model):
    """Last in the file: vLLM on CPU packs a copy of a tied head, which an update of the embedding does not reach."""
    changed = perturbed(model, 0.02)
    sampler._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": changed.named_parameters()})
    sampler._llm.reset_prefix_cache()
    with pytest.raises(ParityError, match="output head"):
        check_parity(sampler, reference_of(changed))
    sampler.update_weights(changed.named_parameters())
    check_parity(sampler, reference_of(changed))


def test_a_small_cache_admits_fewer_answers_and_draws_the_same(sampler, prompts, groups):
    from polaris_rollout.engines import VllmSampler

    cache = sampler._llm.llm_engine.vllm_config.cache_config
    assert sampler.max_in_flight == 128 < cache.kv_cache_size_tokens / (0.375 * 512)
    blocks = {"num_gpu_blocks_override": -(-1024 // cache.block_size) + 1}  # one block is the engine's own
    with VllmSampler("tiny", context=512, options=blocks) as small:
        assert 2 <= small.max_in_flight < 10
        drawn = list(small.sample(prompts[:2], PARAMS, n=8))
    assert {each.problem_id: each.completions for each in drawn} == {
        each.problem_id: groups[each.problem_id].completions for each in drawn
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_cache_dtyp": "fp8"}, "vLLM has no engine option 'kv_cache_dtyp'; near it are kv_cache_dtype"),
        ({"kv_cache_dtype": "int3"}, "vLLM refuses the engine options {'kv_cache_dtype': 'int3'}: "),
        ({"seed": 3}, "engine option 'seed' cannot be set: every completion has a seed of its own"),
    ],
)
def test_an_option_that_the_engine_cannot_take_is_one_sentence(options, message):
    from polaris_rollout.engines import VllmSampler

    with pytest.raises(SettingError) as refused:
        VllmSampler("tiny", context=512, options=options)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_an_engine_whose_update_was_broken_off_is_used_no_more(model):
    from polaris_rollout.engines import VllmSampler

    def broken_off():
        for number, each in enumerate(model.named_parameters()):
            if number == 3:  # between the parts of what vLLM holds as one
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield each

    with VllmSampler("tiny", context=64) as half:
        with pytest.raises(torch.OutOfMemoryError):
            half.update_weights(broken_off())
        with pytest.raises(RuntimeError, match="broken off half-way: close this engine and open another"):
            half.update_weights(model.named_parameters())
        with pytest.raises(RuntimeError, match="broken off half-way"):
            next(half.sample(CANARY_PROMPTS, PARAMS, n=1))
