"""The plan: parameters and memory against what others counted and measured, and refusals whose fixes are accepted."""

import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
from accelerate import init_empty_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polaris_rollout import ModelError
from polaris_train.cli.main import main
from polaris_train.errors import PlanError
from polaris_train.model.adapters import add_adapters, is_adapter
from polaris_train.model.logprobs import CHUNK_BYTES
from polaris_train.planning import (
    CARDS,
    GIB,
    PLANNED,
    Training,
    cheapest_fixes,
    comment,
    derive,
    describe_plan,
    engine_memory,
    find_machine,
    fits_table,
    known_models,
    model_shape,
    packaged_plan,
    plan_recipe,
    recipes_table,
    refusal,
    shape_of,
    training_memory,
)
from polaris_train.planning.memory import HEAD_CHUNK_BYTES
from polaris_train.planning.shapes import known_configs
from polaris_train.planning.timing import num_microbatches, offloading_s, training_s
from polaris_train.recipe import load_recipe, packaged_recipes
from polaris_train.recipe.tables import Activations, Lora
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

STALE = "put the plan's figures there: python tests/bench/plan.py --write-docs"

PUBLISHED = [
    # model, tokens, H100s, LoRA rank; thousand tokens/s and peak GiB a card (prime-rl, benchmarks/results, 2026-02)
    ("Qwen/Qwen3-0.6B", 16384, 1, None, 11.90, 12.5),
    ("Qwen/Qwen3-0.6B", 16384, 1, 16, 13.34, 5.1),
    ("Qwen/Qwen3-0.6B", 65536, 1, None, 10.15, 19.6),
    ("Qwen/Qwen3-0.6B", 65536, 1, 16, 9.97, 11.5),
    ("Qwen/Qwen3-4B-Instruct-2507", 16384, 1, 16, 6.23, 23.3),
    ("Qwen/Qwen3-4B-Instruct-2507", 65536, 1, 16, 4.16, 42.0),
    ("Qwen/Qwen3-4B-Instruct-2507", 16384, 8, None, 26.03, 17.1),
    ("Qwen/Qwen3-4B-Instruct-2507", 65536, 8, None, 28.97, 36.1),
]


def empty(config):
    values = {name: value for name, value in config.items() if name not in ("like", "model_type")}
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[config["model_type"]](**values))
    model.tie_weights()
    return model


@pytest.mark.parametrize("name", known_models())
def test_parameters_are_those_of_the_model_that_transformers_builds(name):
    assert model_shape(name).parameters == sum(each.numel() for each in empty(known_configs()[name]).parameters())


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-Math-1.5B", "meta-llama/Llama-3.2-1B-Instruct"])
@pytest.mark.parametrize("rank", [1, 64])
def test_adapters_are_as_large_as_those_that_peft_adds(name, rank):
    model = empty(known_configs()[name])
    add_adapters(model, Lora(rank=rank))
    added = sum(each.numel() for label, each in model.named_parameters() if is_adapter(label))
    assert model_shape(name).adapter_parameters(rank) == added


HYBRID = {
    "model_type": "qwen3_5_text", "num_hidden_layers": 6, "hidden_size": 48, "intermediate_size": 80,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 4, "max_position_embeddings": 4096,
}  # fmt: skip
KINDS = ["linear_attention", "full_attention", "full_attention", "linear_attention", "full_attention"]


@pytest.mark.parametrize(
    ("said", "full"),
    [
        ({}, 1),
        ({"full_attention_interval": 3, "tie_word_embeddings": True}, 2),
        ({"layer_types": KINDS, "num_hidden_layers": 5}, 3),
        ({"layer_types": ["full_attention"] * 6}, 6),
    ],
)
def test_parameters_and_adapters_of_qwen3_5_are_those_of_the_model_that_transformers_builds(said, full):
    config = HYBRID | said
    shape, model = shape_of(config, name="some"), empty(config)
    assert (shape.full_layers, shape.packs) == (full, full == shape.layers)
    assert shape.parameters == sum(each.numel() for each in model.parameters())
    largest = max(sum(each.numel() for each in layer.parameters()) for layer in model.model.layers)
    assert shape.layer_parameters == largest
    add_adapters(model, Lora(rank=8))
    added = sum(each.numel() for label, each in model.named_parameters() if is_adapter(label))
    assert shape.adapter_parameters(8) == added


def test_of_linear_attention_an_answer_keeps_a_state_and_only_full_layers_keep_its_tokens():
    shape = shape_of(HYBRID, name="some")
    assert shape.cache_bytes(bytes_per_value=2) == 1 * 2 * (2 * 16) * 2
    # Five layers of four heads: 8 x 12 numbers of four bytes, and the last three of what the convolution sees in two.
    assert shape.state_bytes == 5 * (4 * 8 * 12 * 4 + 3 * (2 * 2 * 8 + 4 * 12) * 2)
    engine = engine_memory(shape, memory=8 * GIB, resident=0, tensor_parallel=1, share=0.5, value_bytes=2)
    assert engine.state_tokens == -(-shape.state_bytes // 128)


@pytest.fixture
def hybrid(tmp_path):
    """A configuration of 4B as a model that also sees has it, with whether the head is tied beside it."""
    sizes = {
        "num_hidden_layers": 32, "hidden_size": 2560, "intermediate_size": 9216, "num_attention_heads": 16,
        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 248320, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    }  # fmt: skip
    config = {"model_type": "qwen3_5", "tie_word_embeddings": True, "text_config": HYBRID | sizes}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    return str(tmp_path)


def test_a_model_with_linear_attention_is_planned_sequence_by_sequence(hybrid):
    assert model_shape(hybrid).root_parameters == 248320 * 2560 + 2560
    machine = find_machine("h100", num_ranks=8)
    contexts = [f"stages.{index}.context=8192" for index in range(3)]
    plans = [
        plan_recipe(load_recipe("qwen3-4b", [*contexts, *said]), machine, answer_tokens=2048).stages[0]
        for said in ([f"model={hybrid}"], [f"model={hybrid}", "microbatch_tokens=32768"], ["model=Qwen/Qwen3-4B"])
    ]
    alone, asked, packed = (plan.derived for plan in plans)
    assert alone.training.tokens == asked.training.tokens == 8192 < packed.training.tokens
    assert alone.training == asked.training and not alone.problems
    # An answer's tokens take a quarter of what they would in 32 such layers: more are in flight.
    assert alone.engine.cache_tokens > 3 * packed.engine.cache_tokens
    counted = num_microbatches(alone.training, 128 * 8 * 2048, length=2048)
    assert counted == 128 and num_microbatches(packed.training, 128 * 8 * 2048, length=2048) < counted / 4
    with pytest.raises(ModelError, match="layers with linear attention, whose tokens cannot be shared out"):
        plan_recipe(load_recipe("qwen3-4b", [f"model={hybrid}", "context_parallel=2"]), machine)


def published_training(model, tokens, cards, rank):
    """As the peer trains: it keeps frozen weights in float32."""
    return Training(
        shape=model_shape(model), tokens=tokens, num_ranks=cards, rank=rank, reduces_each=True, frozen_bytes=4
    )


@pytest.mark.parametrize(("model", "tokens", "cards", "rank", "speed", "peak"), PUBLISHED)
def test_memory_and_speed_are_within_15_percent_of_those_that_a_peer_measured_on_h100(
    model, tokens, cards, rank, speed, peak
):
    training = published_training(model, tokens, cards, rank)
    assert training_memory(training).trainer / GIB == pytest.approx(peak, rel=0.15)
    machine = find_machine("h100", num_ranks=cards)
    seconds = training_s(training, machine, num_tokens=tokens * cards, length=tokens)
    assert tokens * cards / seconds / 1000 == pytest.approx(speed, rel=0.15)


def test_the_plan_counts_chunks_of_logits_as_large_as_they_are():
    assert {True: CHUNK_BYTES["cpu"], False: CHUNK_BYTES["cuda"]} == HEAD_CHUNK_BYTES


def test_a_hand_computed_engine_beside_a_trainer():
    """1.7B on one card of 80 GiB: 16 bytes a parameter less gradients stay, and the engine has what is left."""
    recipe = load_recipe("qwen3-1.7b-one-gpu", ["cpu_offload=false"])
    plan = plan_recipe(recipe, find_machine("h100", num_ranks=1)).stages[0].derived
    params = 1_720_574_976
    resident = 12 * params
    assert plan.memory.resident == resident
    left = 80 * GIB - resident - 1.5 * GIB - 6 * 151_936 * 2048
    assert plan.engine.share == pytest.approx(left / (80 * GIB))
    cache = left - 2 * params - 3 * GIB
    assert plan.engine.cache_tokens == int(cache / (28 * 2 * 8 * 128 * 2))
    assert plan.in_flight == int(plan.engine.cache_tokens / (0.375 * 33792))


@pytest.mark.parametrize(
    ("recipe", "cards", "overrides"),
    [
        ("qwen3-1.7b", 1, []),
        ("qwen3-4b", 1, []),
        ("qwen3-4b", 2, []),
        ("qwen3-4b", 4, ["model=Qwen/Qwen3-8B"]),
        ("qwen3-4b", 2, ["model=Qwen/Qwen3-8B", "tensor_parallel=2"]),
    ],
)
def test_what_a_constant_share_of_the_card_kept_from_starting_fits(recipe, cards, overrides):
    plan = plan_recipe(load_recipe(recipe, overrides), find_machine("h100", num_ranks=cards))
    assert plan.problems == []
    assert all(stage.derived.engine.cache_tokens >= stage.context for stage in plan.stages)


def test_what_fits_without_is_neither_offloaded_nor_shared_out_each_time():
    plan = plan_recipe(load_recipe("qwen3-4b"), find_machine("h100", num_ranks=8))
    assert not any(each.derived.training.offloads or each.derived.training.reduces_each for each in plan.stages)
    smaller = plan_recipe(load_recipe("qwen3-4b"), find_machine("h100", num_ranks=8, memory_gib=40))
    assert any(each.derived.training.reduces_each or each.derived.training.offloads for each in smaller.stages)


def test_the_fewer_activations_are_kept_the_less_memory_and_the_more_time_a_step_takes():
    shape, machine = model_shape("Qwen/Qwen3-4B"), find_machine("h100", num_ranks=1)
    ways = [Training(shape=shape, tokens=16384, activations=each) for each in get_args(Activations)]
    memory = [training_memory(each).total for each in ways]
    seconds = [
        training_s(each, machine, num_tokens=1e6, length=16384) + offloading_s(each, num_tokens=1e6, length=16384)
        for each in ways
    ]
    assert memory == sorted(memory, reverse=True) and len(set(memory)) == 5
    assert seconds == sorted(seconds) and seconds[0] < seconds[-1]
    assert training_memory(ways[-1]).host == 2 * 16384 * 36 * 2560
    assert not any(training_memory(each).host for each in ways[:-1])


@pytest.mark.parametrize(("settings", "expected"), [([], "recompute"), (["activations=keep"], "keep")])
def test_layers_keep_their_input_on_a_card_unless_the_recipe_says_otherwise(settings, expected):
    contexts = [f"stages.{i}.context=16384" for i in range(3)]
    recipe = load_recipe("qwen3-4b", ["model=Qwen/Qwen3-0.6B", *contexts, *settings])
    plan = plan_recipe(recipe, find_machine("h100", num_ranks=1))
    assert {each.derived.training.activations for each in plan.stages} == {expected}


def test_gradients_are_shared_out_each_time_where_that_alone_makes_room():
    """4B on eight cards of 40 GiB, whose whole gradients in float32 would take 15 of them on each."""
    machine = find_machine("h100", num_ranks=8, memory_gib=40)

    def derived(*overrides):
        stages = plan_recipe(load_recipe("qwen3-4b", [*overrides]), machine).stages
        return {(each.derived.training.offloads, each.derived.training.reduces_each) for each in stages}

    # Offload comes first, for the engine's cache; at the longer contexts whole gradients leave no room even so.
    assert derived() == {(True, False), (False, True)}
    assert derived("cpu_offload=false") == {(False, True)}
    assert derived("reduce_each_microbatch=true") == {(False, True)}


def test_memory_falls_with_ranks_and_rises_with_tokens():
    shape = model_shape("Qwen/Qwen3-4B")
    totals = [
        [
            training_memory(Training(shape=shape, tokens=tokens, num_ranks=ranks)).total
            for tokens in (8192, 16384, 65536)
        ]
        for ranks in (1, 2, 8)
    ]
    assert all(row == sorted(row) for row in totals)
    assert all(list(column) == sorted(column, reverse=True) for column in zip(*totals, strict=True))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    recipe=st.sampled_from(["qwen3-4b", "qwen3-1.7b-one-gpu", "math-level45-lora", "r1-distill-qwen-7b"]),
    card=st.sampled_from(["rtx-4090", "a100-40gb", "h100", "l40s"]),
    cards=st.sampled_from([1, 2, 8]),
    overrides=st.sampled_from(
        [[], ["cpu_offload=false"], ["engine.gpu_memory_utilization=0.2"], ["model=Qwen/Qwen3-14B"], ["kl_coef=0.1"]]
    ),
)
def test_every_fix_that_a_refusal_names_is_accepted(recipe, card, cards, overrides):
    overrides = [*overrides, f"num_processes={cards}"]
    machine = find_machine(card, num_ranks=cards)
    plan = plan_recipe(load_recipe(recipe, overrides), machine)
    if not plan.problems:
        return
    fixes = cheapest_fixes(recipe, overrides, machine)
    assert 1 <= len(fixes) <= 3
    for fix in fixes:
        assert plan_recipe(load_recipe(recipe, [*overrides, *fix]), machine).problems == []
        assert f"--set {fix[0]}" in refusal(plan, fixes)


LONG = ["model=Qwen/Qwen3-1.7B", "stages.2.context=262144", "extend_positions=true"]


def test_ranks_share_a_sequence_where_nothing_else_makes_a_stage_fit():
    machine = find_machine("h100", num_ranks=8, memory_gib=40)
    plan = plan_recipe(load_recipe("qwen3-4b", LONG), machine)
    assert not plan.problems
    assert [each.derived.training.context_parallel for each in plan.stages] == [1, 1, 2]
    said = [line for line in describe_plan(plan).splitlines() if "derived" in line]
    assert ["2 ranks a sequence" in line for line in said] == [False, False, True]
    chosen = [*LONG, "context_parallel=1"]  # which is kept, and a fix
    assert plan_recipe(load_recipe("qwen3-4b", chosen), machine).problems
    assert cheapest_fixes("qwen3-4b", chosen, machine)[0] == ("context_parallel=2",)
    assert not plan_recipe(load_recipe("qwen3-4b", [*chosen, "context_parallel=2"]), machine).problems


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-1.5B", "Qwen/Qwen3-1.7B"])  # of 12 and 16 heads
@pytest.mark.parametrize("cards", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("context", [65536, 262144, 1048576])
def test_a_derived_degree_divides_ranks_and_heads_and_no_smaller_one_fits(model, cards, context):
    machine = find_machine("h100", num_ranks=cards, memory_gib=32)
    said = [f"model={model}", "extend_positions=true", *(f"stages.{index}.context={context}" for index in range(3))]
    derived = plan_recipe(load_recipe("qwen3-4b", said), machine).stages[0].derived
    degree = derived.training.context_parallel
    assert cards % degree == 0 and model_shape(model).heads % degree == 0

    def chosen(number):
        return plan_recipe(load_recipe("qwen3-4b", [*said, f"context_parallel={number}"]), machine).stages[0].derived

    smaller = [each for each in range(1, degree) if cards % each == 0 and model_shape(model).heads % each == 0]
    assert all(chosen(each).problems for each in smaller)
    assert chosen(degree) == derived


def test_a_sequence_is_shared_by_ranks_of_one_node_and_not_where_layers_cannot_be(hybrid):
    long = load_recipe("qwen3-4b", LONG).stages[2]
    machine = find_machine("h100", num_ranks=8, memory_gib=12)

    def degrees(machine, *said):
        recipe = load_recipe("qwen3-4b", [*LONG, *said])
        return derive(recipe, long.context, {}, model_shape(recipe.model), machine).training.context_parallel

    assert degrees(machine) == 8
    assert degrees(replace(machine, ranks_per_node=2)) == 2
    assert degrees(replace(machine, ranks_per_node=1)) == 1
    assert degrees(find_machine("cpu", num_ranks=8, memory_gib=1)) == 1
    assert degrees(machine, f"model={hybrid}") == 1
    # A teacher that is loaded shares its heads out as well, 28 of them.
    assert degrees(machine, "distillation.teacher=Qwen/Qwen2.5-7B") == 4


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["polaris-train", "plan", *arguments])
    code = 0
    try:
        main()
    except SystemExit as stopped:
        code = stopped.code or 0
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_recipe_that_cannot_fit_is_refused_with_three_lines_that_are_then_accepted(monkeypatch, capsys):
    asked = ["qwen3-4b", "--gpus", "1", "--gpu", "rtx-4090"]
    code, out, err = run(monkeypatch, capsys, *asked)
    assert code == 2
    assert re.search(
        r"in stage-3 cpu_offload and activations = 'offload' needs \d+ GiB of the host's memory, which", err
    )
    assert "in all" in out
    fixes = [line.split() for line in err.splitlines() if line.startswith("  --set")]
    assert len(fixes) == 3
    for fix in fixes:
        assert run(monkeypatch, capsys, *asked, *fix)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["qwen3-4b", "--gpu", "h10"], "--gpu 'h10' is unknown; near it are h100"),
        (["qwen3-4b", "--gpu-memory", "0"], "--gpu-memory is 0; give GiB above 0"),
        (["qwen3-4b", "--answer-tokens", "0"], "--answer-tokens is 0; give 1 or more"),
        (["qwen3-4b", "--gpus", "1", "--host-memory", "4"], "of the host's memory, which has 4"),
        (
            [
                "qwen3-4b",
                "--gpus",
                "1",
                "--host-memory",
                "4",
                "--set",
                "activations=offload",
                "--set",
                "cpu_offload=false",
            ],
            "activations = 'offload' needs 9 GiB of the host's memory, which has 4",
        ),
        pytest.param(
            *(["qwen3-4b", "--set", "engine.kv_cach_dtype=fp8"], "kv_cache_dtype"),
            marks=pytest.mark.skipif(find_spec("vllm") is None, reason="without vLLM every option's name passes"),
        ),
        (["qwen3-4b", "--set", "engine.max_model_len=9"], "'max_model_len' cannot be set: it is the context"),
        (["qwen3-4b", "--set", "tensor_parallel=3", "--gpus", "8"], "tensor_parallel = 3 does not divide 8 ranks"),
        (["qwen3-4b", "--set", "model=none-such"], "no model 'none-such'"),
        (
            ["qwen3-4b", "--set", "model=Qwen/Qwen2.5-1.5B", "--set", "context_parallel=8", "--gpus", "8"],
            "context_parallel is 8, which does not divide the 12 attention heads of Qwen/Qwen2.5-1.5B; give one of "
            "1, 2, 3, 4, 6, 12",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(monkeypatch, capsys, arguments, message):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in err and "Traceback" not in err


def test_a_type_of_model_whose_layers_differ_is_refused():
    with pytest.raises(PlanError, match="type 'gemma3_text' cannot be planned"):
        shape_of({"model_type": "gemma3_text"}, name="some")
    with pytest.raises(PlanError, match="has no 'num_attention_heads'"):
        shape_of({"model_type": "llama"}, name="some")


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_can_be_planned_on_every_card(name):
    for card in CARDS:
        plan = plan_recipe(load_recipe(name), find_machine(card, num_ranks=8))
        assert all(each.derived.memory.total > 0 for each in plan.stages)
        json.dumps([each.derived.problems for each in plan.stages])


@pytest.mark.parametrize("name", PLANNED)
def test_a_recipe_for_a_machine_fits_it_and_its_comment_says_what_the_plan_says(name):
    plan = packaged_plan(name)
    assert plan.problems == []
    assert comment(plan) + "\n" in packaged_recipes()[name].read_text(encoding="utf-8"), (
        "tests/bench/plan.py --write-docs"
    )


@pytest.mark.parametrize(("page", "table"), [("docs/what-fits.md", fits_table), ("README.md", recipes_table)])
def test_the_tables_of_the_docs_are_what_the_plan_says(page, table):
    package = Path(__file__).parents[1]
    path = package / page if page == "README.md" else package.parents[1] / page
    if not path.exists():
        pytest.skip("the package alone")
    assert f"<!-- plan -->\n{table()}\n<!-- /plan -->" in path.read_text(encoding="utf-8"), (
        "tests/bench/plan.py --write-docs"
    )


def test_without_a_recipe_the_command_prints_what_fits(monkeypatch, capsys):
    assert run(monkeypatch, capsys) == (0, fits_table() + "\n", "")


def test_a_known_base_and_a_folder_are_planned_without_the_network(monkeypatch, capsys):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    assert run(monkeypatch, capsys, "qwen3-4b")[0] == 0
    code, out, _ = run(monkeypatch, capsys, "tiny-cpu", "--gpu", "cpu")
    assert code == 0 and "tiny-cpu on a CPU with 16 GiB" in out


SFT_AND_RL = """
model = "Qwen/Qwen3-4B"
problems = "synthetic"
kl_coef = 0.01

[[stages]]
kind = "sft"
name = "traces"
context = 16384
traces = "{traces}"
epochs = 2

[[stages]]
name = "stage-1"
context = 16384
temperature = 1.0
steps = 10
"""


def test_a_stage_that_learns_from_traces_is_planned_without_an_engine_and_a_reference(tmp_path):
    (tmp_path / "traces.jsonl").write_text('{"messages": []}\n' * 70)
    (tmp_path / "recipe.toml").write_text(SFT_AND_RL.format(traces=tmp_path / "traces.jsonl"))
    machine = find_machine("h100", num_ranks=8)
    recipe = str(tmp_path / "recipe.toml")
    sft, rl = plan_recipe(load_recipe(recipe, ["evaluate_every=0"]), machine, answer_tokens=1000).stages
    assert sft.steps == 5  # 140 traces, 32 at a time
    assert sft.derived.engine is None and sft.derived.memory.engine == 0
    # Beside four bytes of each parameter two of the reference's, which is not trained.
    assert sft.derived.memory.masters == pytest.approx(rl.derived.memory.masters * 4 / 6)
    seconds = training_s(sft.derived.training, machine, num_tokens=32_000, length=1000)
    assert sft.hours == pytest.approx(5 * seconds / 3600)
    evaluated, _ = plan_recipe(load_recipe(recipe, ["evaluate_every=5"]), machine).stages
    assert evaluated.derived.engine is not None


def test_a_plan_says_what_a_stage_of_traces_takes_with_and_without_its_traces(tmp_path, monkeypatch, capsys):
    (tmp_path / "traces.jsonl").write_text('{"messages": []}\n' * 70)
    (tmp_path / "recipe.toml").write_text(SFT_AND_RL.format(traces=tmp_path / "traces.jsonl"))
    code, out, _ = run(monkeypatch, capsys, str(tmp_path / "recipe.toml"))
    assert code == 0 and "traces: context 16,384, at most 5 steps, each of 32 traces" in out
    assert "  at most 5 steps, each of 32 traces: " in out
    (tmp_path / "traces.jsonl").unlink()
    code, out, _ = run(monkeypatch, capsys, str(tmp_path / "recipe.toml"))
    assert code == 0 and "as many steps as its traces give, each of 32 traces" in out
    assert "  1,000 traces, once: " in out and "Without the time of traces: how many" in out
    code, _, err = run(monkeypatch, capsys, str(tmp_path / "recipe.toml"), "--gpus", "1", "--gpu", "rtx-4090")
    assert code == 2 and "does not fit" in err
