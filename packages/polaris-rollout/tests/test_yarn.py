"""What a longer context changes in a model's configuration, and what vLLM is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_rollout import EngineSpec, ModelError
from polaris_rollout.engines.options import CPU_BATCHED_TOKENS, vllm_options
from polaris_rollout.errors import SettingError
from polaris_rollout.yarn import yarn_config

PLAIN = {
    "max_position_embeddings": 40960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
}
OLDER = {"max_position_embeddings": 40960, "rope_theta": 1e6, "rope_scaling": None}
YARN = {
    "max_position_embeddings": 40960,
    "rope_theta": 1e6,
    "rope_scaling": {
        "type": "yarn",
        "factor": 1.25,
        "original_max_position_embeddings": 32768,
        "attn_factor": 0.9,
        "beta_fast": 16,
    },
}


def test_a_context_within_the_positions_changes_nothing():
    assert yarn_config(PLAIN, 40960) == yarn_config(YARN, 1) == {}
    assert yarn_config({"text_config": {}}, 10**6) == {}  # only the loader knows


def test_a_longer_context_derives_factor_and_positions_without_attention_temperature():
    assert yarn_config(OLDER, 98304) == {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 2.4,
            "original_max_position_embeddings": 40960,
            "attention_factor": 1.0,
        },
        "max_position_embeddings": 98304,
    }
    assert yarn_config(PLAIN, 98304)["rope_parameters"]["partial_rotary_factor"] == 0.5


def test_a_yarn_model_keeps_the_positions_it_was_made_for():
    rope = yarn_config(YARN, 98304)["rope_parameters"]
    assert (rope["factor"], rope["original_max_position_embeddings"], rope["beta_fast"]) == (3.0, 32768, 16)
    assert rope["attention_factor"] == 1.0
    assert "attn_factor" not in rope


def test_a_yarn_model_keeps_a_factor_that_covers_more():
    published = YARN | {"rope_scaling": YARN["rope_scaling"] | {"factor": 4.0}}
    assert yarn_config(published, 65536)["rope_parameters"]["factor"] == 4.0


@given(positions=st.integers(1, 10**6), share=st.floats(0, 1))
def test_the_factor_covers_the_context(positions, share):
    config = {"max_position_embeddings": positions, "rope_theta": 1e4}
    context = positions + 1 + int(share * (3 * positions - 1))
    rope = yarn_config(config, context)["rope_parameters"]
    assert rope["factor"] * positions == pytest.approx(context, rel=1e-12)


def test_a_context_far_beyond_the_positions_needs_an_explicit_factor():
    assert yarn_config(OLDER, 163840)["rope_parameters"]["factor"] == 4.0
    with pytest.raises(
        ModelError, match=r"6\.4 times the 40960 positions .* at most 163840, or to .* --yarn-factor 6\.4$"
    ):
        yarn_config(OLDER, 262144)
    assert yarn_config(OLDER, 262144, factor=6.4)["rope_parameters"]["factor"] == 6.4
    long = YARN | {"rope_scaling": YARN["rope_scaling"] | {"factor": 16.0}}  # its makers went further
    assert yarn_config(long, 262144)["rope_parameters"]["factor"] == 16.0
    with pytest.raises(ModelError, match="derived up to 16 times"):
        yarn_config(long, 16 * 32768 + 1)


@pytest.mark.parametrize(
    ("rotary", "part"),
    [
        ({"rope_theta": 1e6, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "llama3"),
        ({"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_theta": 1e6, "rope_scaling": {"type": "longrope", "factor": 2.0}}, "longrope"),
        ({"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 0.7}}, "mscale"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "each kind of layer"),
        ({"model_type": "gpt2"}, "none"),
    ],
)
def test_other_rotary_embeddings_are_refused_in_one_sentence(rotary, part):
    with pytest.raises(ModelError, match=part) as error:
        yarn_config({"max_position_embeddings": 512} | rotary, 1024)
    assert "at most 512" in str(error.value)


@pytest.mark.parametrize(("context", "longest"), [(None, 61440), (61440, 61440), (1024, 1024)])
def test_a_given_factor_is_used_as_it_is(context, longest):
    changed = yarn_config(OLDER, context, factor=1.5)
    assert (changed["rope_parameters"]["factor"], changed["max_position_embeddings"]) == (1.5, longest)
    assert changed["rope_parameters"]["original_max_position_embeddings"] == 40960


def test_a_given_factor_counts_from_the_positions_that_a_yarn_model_was_made_for():
    rope = yarn_config(YARN, 65536, factor=2)["rope_parameters"]
    assert (rope["factor"], rope["original_max_position_embeddings"]) == (2, 32768)
    with pytest.raises(ModelError, match=r"allows 65536; give at most that, or a factor of at least 2\.001"):
        yarn_config(YARN, 65537, factor=2)


@given(positions=st.integers(1, 10**6), context=st.integers(2, 10**7))
def test_the_factor_that_a_refusal_names_is_enough(positions, context):
    config = {"max_position_embeddings": positions, "rope_theta": 1e4}
    try:
        yarn_config(config, context, factor=1.01)
    except ModelError as error:
        assert yarn_config(config, context, factor=float(str(error).rpartition(" ")[2]))
    else:
        assert context <= 1.01 * positions


@pytest.mark.parametrize("factor", [1.0, 0.0, -2.0, float("nan"), float("inf")])
def test_a_factor_that_extends_nothing_is_refused(factor):
    with pytest.raises(ModelError, match="above 1"):
        yarn_config(OLDER, 65536, factor=factor)


def test_a_factor_needs_to_know_the_positions():
    with pytest.raises(ModelError, match="max_position_embeddings"):
        yarn_config({"rope_theta": 1e6}, None, factor=2.0)


def test_a_context_that_is_not_positive_is_refused():
    with pytest.raises(ModelError, match="positive"):
        yarn_config(PLAIN, 0)


def test_the_engine_is_told_yarn_positions_and_batched_tokens():
    options = vllm_options(OLDER, EngineSpec("m", context=98304), on_cpu=True)
    assert options["hf_overrides"] == yarn_config(OLDER, 98304)
    assert options["max_model_len"] == options["max_num_batched_tokens"] == 98304
    assert vllm_options(OLDER, EngineSpec("m", context=None, yarn_factor=1.5), on_cpu=True)["max_model_len"] == 61440
    assert vllm_options(OLDER, EngineSpec("m", context=None), on_cpu=True)["max_num_batched_tokens"] == 40960
    assert vllm_options(OLDER, EngineSpec("m", context=64), on_cpu=True)["max_num_batched_tokens"] == CPU_BATCHED_TOKENS


def test_plain_extrapolation_changes_positions_only():
    longer = vllm_options(OLDER, EngineSpec("m", context=98304, extend_positions=True, dtype="float16"), on_cpu=False)
    assert longer["dtype"] == "float16"
    assert longer["hf_overrides"] == {"max_position_embeddings": 98304}
    shorter = vllm_options(OLDER, EngineSpec("m", context=64, extend_positions=True), on_cpu=False)
    assert shorter["hf_overrides"] == {"max_position_embeddings": 40960}


def test_ranks_are_shared_out_evenly(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "6")
    options = vllm_options(OLDER, EngineSpec("m", context=64, tensor_parallel=2), per_rank=True, on_cpu=True)
    assert (options["tensor_parallel_size"], options["distributed_executor_backend"]) == (2, "external_launcher")
    with pytest.raises(SettingError, match="divisor of the 6 ranks"):
        vllm_options(OLDER, EngineSpec("m", context=64, tensor_parallel=4), per_rank=True, on_cpu=True)
    with pytest.raises(SettingError, match="1 or more"):
        vllm_options(OLDER, EngineSpec("m", context=64, tensor_parallel=0), on_cpu=True)
