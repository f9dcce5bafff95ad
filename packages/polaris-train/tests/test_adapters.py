"""LoRA: what is trained, what the engine and exports get, and what a checkpoint holds."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, PeftModel, get_peft_model
from polaris_rollout import resolve_model
from polaris_rollout.errors import ModelError
from polaris_train.cli import app
from polaris_train.embedded import tiny_model
from polaris_train.errors import AdapterError
from polaris_train.grpo.loss import kl_penalty
from polaris_train.grpo.rescue import RescueBuffer
from polaris_train.model.adapters import is_adapter, load_adapters, read_adapters
from polaris_train.model.loading import load_policy, save_policy
from polaris_train.model.packing import TrainingSequence, pack
from polaris_train.model.policy import WithoutAdapters
from polaris_train.recipe.tables import Lora
from polaris_train.run_folder import Checkpoints, StepFiles
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.training_state import TrainingState, load_weights
from torch.distributed.checkpoint import FileSystemReader
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
from typer.testing import CliRunner

CPU = torch.device("cpu")
LORA = Lora(rank=4, alpha=6)


pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=request.param,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def batch():
    tokens = torch.randint(0, 60, (24,), generator=torch.Generator().manual_seed(1)).tolist()
    whole = TrainingSequence(prompt_token_ids=tuple(tokens[:5]), token_ids=tuple(tokens[5:]))
    short = TrainingSequence(prompt_token_ids=tuple(tokens[3:5]), token_ids=tuple(tokens[9:12]))
    return pack([whole, short])


def trained(folder, *, steps=3, second_model=False, degree=1, precision=None):
    """A state after steps towards likelier tokens, far enough that adapters matter, and held near the first model."""
    of = {"device": CPU, "context": 64, "precision": precision}
    policy = load_policy(str(folder), **of, lora=LORA, seed=3, context_parallel=degree)
    reference = load_policy(str(folder), **of) if second_model else WithoutAdapters(policy)
    optimizer = torch.optim.AdamW(policy.trained_parameters(), lr=0.05)
    for _ in range(steps):
        logprobs, _ = policy(batch(), temperature=1.4)
        frozen = reference.frozen_logprobs(batch(), temperature=1.4)
        # Each rank has the gradient of its own slice, and FSDP averages what should be added up.
        (degree * (0.1 * kl_penalty(logprobs, frozen) - logprobs).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    rescue = RescueBuffer(StepFiles(Path(folder) / "rescue"), max_age=10, max_tokens=64, seed=0)
    return TrainingState(
        policy=policy, optimizer=optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False), rescue=rescue, step=steps
    )


def logprobs(policy, temperature=1.4):
    return policy.frozen_logprobs(batch(), temperature=temperature)


def test_fresh_adapters_change_nothing_and_every_linear_layer_but_the_head_has_one(folder):
    plain = load_policy(str(folder), device=CPU, context=64)
    policy = load_policy(str(folder), device=CPU, context=64, lora=LORA)
    assert torch.equal(logprobs(policy), logprobs(plain))
    names = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    assert all(is_adapter(name) for name in names)
    assert len(names) == 2 * 2 * 7  # two factors, two layers, q k v o gate up down


@pytest.fixture(scope="module")
def half(folder, tmp_path_factory):
    """The same model as most are published."""
    half = tmp_path_factory.mktemp("half")
    Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(half)
    return half


def test_what_is_not_trained_is_kept_as_it_computes_and_computes_the_same(half):
    of = {"device": CPU, "context": 64, "precision": "bfloat16"}
    plain, policy = load_policy(str(half), **of), load_policy(str(half), **of, lora=LORA)
    frozen = load_policy(str(half), **of, frozen=True)
    assert {each.dtype for each in plain.parameters()} == {torch.float32}
    assert {each.dtype for each in frozen.parameters()} == {torch.bfloat16}
    assert not frozen.trained_parameters() and not frozen.training
    for name, parameter in policy.model.named_parameters():
        assert parameter.requires_grad == is_adapter(name)
        assert parameter.dtype == (torch.float32 if is_adapter(name) else torch.bfloat16), name
    assert torch.equal(logprobs(policy), logprobs(plain))
    assert torch.equal(logprobs(frozen), logprobs(plain))


def test_a_merged_half_is_rounded_once(half):
    policy = trained(half, precision="bfloat16").policy
    parts = {name: each.full_tensor() for name, each in policy.model.named_parameters()}
    layer = "model.layers.1.mlp.down_proj"
    a, b = (parts[f"{layer}.{factor}.default.weight"].double() for factor in ("lora_A", "lora_B"))
    exact = parts[f"{layer}.base_layer.weight"].double() + LORA.alpha / LORA.rank * (b @ a)
    merged = dict(policy.weights())[f"{layer}.weight"]
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged.double(), exact, rtol=1e-5, atol=1e-6)
    assert not torch.equal(merged, merged.bfloat16().float())


def test_adapters_start_by_their_seed(folder):
    def factors(seed):
        model = load_policy(str(folder), device=CPU, context=64, lora=LORA, seed=seed).model
        return torch.cat([p.full_tensor().flatten() for name, p in model.named_parameters() if "lora_A" in name])

    assert torch.equal(factors(1), factors(1))
    assert not torch.equal(factors(1), factors(2))


def test_training_changes_adapters_alone(folder):
    before = dict(load_policy(str(folder), device=CPU, context=64).weights())
    model = trained(folder).policy.model
    for name, parameter in model.named_parameters():
        if not is_adapter(name):
            assert torch.equal(parameter.full_tensor(), before[name.replace(".base_layer", "")]), name
        else:
            assert parameter.full_tensor().abs().sum() > 0, name


def test_without_adapters_a_policy_is_what_it_was_and_then_again_what_it_is(folder):
    policy = trained(folder).policy
    now = logprobs(policy)
    before = WithoutAdapters(policy).frozen_logprobs(batch(), temperature=1.4)
    assert torch.equal(before, logprobs(load_policy(str(folder), device=CPU, context=64)))
    assert torch.equal(logprobs(policy), now)
    assert not torch.allclose(now, before, atol=0.1)


def test_held_by_itself_without_adapters_a_policy_trains_as_held_by_a_second_model(folder):
    """Between its forward and its backward pass, where it is sharded."""
    one, two = trained(folder).policy, trained(folder, second_model=True).policy
    assert torch.equal(logprobs(one), logprobs(two))


def test_the_engine_gets_merged_weights_that_compute_the_same(folder):
    policy = trained(folder).policy
    plain = load_policy(str(folder), device=CPU, context=64)
    unchanged = logprobs(plain)
    weights = dict(policy.weights())
    with torch.no_grad():
        for name, parameter in plain.model.named_parameters():
            parameter.copy_(torch.distributed.tensor.distribute_tensor(weights[name], parameter.device_mesh))
    assert torch.allclose(logprobs(plain), logprobs(policy), atol=1e-5)
    assert not torch.allclose(logprobs(policy), unchanged, atol=0.1)


def test_a_merged_weight_is_the_weight_and_the_scaled_product(folder):
    policy = trained(folder).policy
    parts = {name: each.full_tensor() for name, each in policy.model.named_parameters()}
    layer = "model.layers.1.mlp.down_proj"
    a, b = (parts[f"{layer}.{factor}.default.weight"] for factor in ("lora_A", "lora_B"))
    expected = parts[f"{layer}.base_layer.weight"] + 6 / 4 * b @ a
    assert torch.allclose(dict(policy.weights())[f"{layer}.weight"], expected, atol=1e-7)


def test_an_export_is_read_merged_by_transformers_and_alone_by_peft(folder, tmp_path):
    policy = trained(folder).policy
    save_policy(policy, tmp_path / "out", source=tiny_model(), adapters=tmp_path / "out" / "adapter")
    ids = torch.arange(20)[None]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(ids).logits
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    start = base(ids).logits
    beside = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")(ids).logits
    assert torch.allclose(merged, beside, atol=1e-5)
    assert not torch.allclose(start, beside, atol=0.1)


def test_a_checkpoint_holds_adapters_alone_and_continues_as_if_nothing_was(folder, tmp_path):
    state = trained(folder)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpointer = Checkpointer(checkpoints, keep=2, identity={})
    checkpointer.save(state, {})
    checkpointer.wait()
    restored = trained(folder, steps=0)
    assert checkpointer.restore(restored)["step"] == 3
    for each in (state, restored):
        (-each.policy(batch(), temperature=1.4)[0].sum()).backward()
        each.optimizer.step()
    assert torch.equal(logprobs(state.policy), logprobs(restored.policy))
    stored = FileSystemReader(checkpoints.step(3).path).read_metadata().state_dict_metadata
    assert {name for name in stored if name.startswith("model.")}
    assert [name for name in stored if re.search(r"\.weight(\.|$)", name) and not is_adapter(name)] == []
    fresh = load_policy(str(folder), device=CPU, context=64, lora=LORA)
    assert load_weights(checkpoints, fresh) == 3


RANK = """
import sys

import torch
import torch.distributed as dist

sys.path.insert(0, sys.argv[2])
from test_adapters import logprobs, trained

dist.init_process_group("gloo")
state = trained(sys.argv[1], degree=int(sys.argv[4]))
merged = dict(state.policy.weights())
if dist.get_rank() == 0:
    torch.save({"logprobs": logprobs(state.policy), "merged": merged}, sys.argv[3])
else:
    logprobs(state.policy)
"""


@pytest.mark.parametrize("degree", [1, 2], ids="{} slices".format)
def test_two_ranks_train_what_one_does(folder, tmp_path, degree):
    """Both compute the whole batch, so gradients averaged over them are those of one; or each a slice of its tokens."""
    (tmp_path / "rank.py").write_text(RANK)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    here = str(__file__).rpartition("/")[0]
    command = [*torchrun, tmp_path / "rank.py", folder, here, tmp_path / "found.pt", str(degree)]
    subprocess.run(command, check=True)
    found, one = torch.load(tmp_path / "found.pt"), trained(folder).policy
    assert torch.allclose(found["logprobs"], logprobs(one), atol=1e-5)
    for name, weight in one.weights():
        assert torch.allclose(found["merged"][name], weight, atol=1e-5), name


@pytest.fixture
def whole(folder, tmp_path):
    """The model with a tokenizer, and adapters that peft made for it and that are not 0."""
    shutil.copytree(folder, tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_model()).save_pretrained(tmp_path / "base")
    torch.manual_seed(5)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    beside = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32), config)
    beside.save_pretrained(tmp_path / "adapters")
    return beside.eval()


@pytest.fixture
def no_group():
    """The command starts a process group of its own."""
    dist.destroy_process_group()
    yield
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


@pytest.mark.usefixtures("no_group")
def test_adapters_of_peft_are_exported_as_a_model_that_computes_the_same(whole, tmp_path):
    done = CliRunner().invoke(app, ["export", str(tmp_path / "adapters")])
    assert done.exit_code == 0, done.output
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "adapters-merged", dtype=torch.float32).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, whole(ids).logits, atol=1e-5)
        with whole.disable_adapter():
            assert not torch.allclose(merged(ids).logits, whole(ids).logits, atol=0.01)


@pytest.mark.usefixtures("whole")
def test_adapters_are_no_model_to_start_from_and_the_answer_says_where_one_is(tmp_path):
    with pytest.raises(ModelError, match=r"adapters alone.*polaris-train export \S*adapters --out MODEL"):
        resolve_model(str(tmp_path / "adapters"))
    shutil.move(tmp_path / "adapters", tmp_path / "base" / "adapter")
    with pytest.raises(ModelError, match=r"adapters alone.*give \S*base$"):
        resolve_model(str(tmp_path / "base" / "adapter"))


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 4}, r"is \(3, 32\), but the model and the rank .* ask for \(4, 32\); correct r or"),
        ({"base_model_name_or_path": "tiny"}, r"is \(3, 32\), but the model .* ask for"),
        ({"use_dora": True}, "'use_dora': True.* merge it with peft"),
        ({"peft_type": "IA3"}, "only LoRA is known here"),
        ({"r": None}, "does not say what its adapters are"),
    ],
)
def test_adapters_of_another_model_rank_or_kind_are_refused_in_a_sentence(tmp_path, changes, message):
    path = tmp_path / "adapters" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(AdapterError, match=message) as caught:
        base, lora = read_adapters(tmp_path / "adapters")
        load_adapters(load_policy(resolve_model(base), device=CPU, context=1, lora=lora).model, tmp_path / "adapters")
    assert str(tmp_path / "adapters") in str(caught.value)


@pytest.mark.usefixtures("whole")
def test_adapters_of_a_deeper_model_are_refused_by_the_layer_that_is_missing(tmp_path):
    path = tmp_path / "base" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1, "layer_types": None}))
    base, lora = read_adapters(tmp_path / "adapters")
    policy = load_policy(base, device=CPU, context=1, lora=lora)
    with pytest.raises(AdapterError, match=r"layers\.1\..*no linear layer: they belong beside another model"):
        load_adapters(policy.model, tmp_path / "adapters")
