"""The protocol: what it holds, and when two are the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from polaris_eval.running.protocol import join_settings, protocol_hash, run_settings
from polaris_reward import BOXED, POLARIS_V1
from polaris_rollout import EngineSpec, SamplingParams
from polaris_rollout.errors import ModelError

CONFIG = {
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model until an engine opens it."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    return tmp_path


def settings(model: Path | str, **changes: Any) -> dict[str, Any]:
    engine = {name: changes.pop(name) for name in ("context", "tensor_parallel", "endpoints") if name in changes}
    arguments: dict[str, Any] = {"params": SamplingParams(seed=3), "convention": BOXED, "budgets": (8,), **changes}
    return run_settings(EngineSpec(str(model), **engine), **arguments)


def of_benchmark(name: str, shared: dict[str, Any], *, checksum: str = "c0ffee") -> dict[str, Any]:
    return {"benchmark": name, "num_problems": 3, "checksum": checksum, "num_samples": 2, **shared}


def test_settings_are_the_same_every_time_and_survive_json(model: Path):
    assert settings(model) == settings(model) == json.loads(json.dumps(settings(model)))


@pytest.mark.parametrize(
    "changes",
    [
        {"params": SamplingParams(seed=4)},
        {"params": SamplingParams(seed=3, temperature=0.6)},
        {"params": SamplingParams(seed=3, top_k=20)},
        {"params": SamplingParams(seed=3, max_tokens=9)},
        {"context": 32},
        {"context": 128},
        {"convention": POLARIS_V1},
        {"budgets": (8, 9)},
        {"tensor_parallel": 2},
        {"endpoints": ("http://host:8000",)},
    ],
)
def test_whatever_can_change_a_score_changes_the_hash(model: Path, changes: dict[str, Any]):
    before, after = (join_settings([of_benchmark("sums", settings(model, **each))]) for each in ({}, changes))
    assert protocol_hash(before) != protocol_hash(after)


@pytest.mark.parametrize("file", ["chat_template.jinja", "model.safetensors", "config.json"])
def test_other_files_of_the_model_change_the_hash(model: Path, file: str):
    before = settings(model)
    (model / file).write_bytes((model / file).read_bytes().replace(b"m", b"n") + b" ")
    assert settings(model) != before


def test_other_problems_change_the_hash_and_the_order_of_entries_does_not(model: Path):
    shared = settings(model)
    made_by = join_settings([of_benchmark("a", shared), of_benchmark("b", shared)])
    assert set(made_by["benchmarks"]) == {"a", "b"}
    assert protocol_hash(dict(reversed(made_by.items()))) == protocol_hash(made_by)
    other = join_settings([of_benchmark("a", shared), of_benchmark("b", shared, checksum="beef")])
    assert protocol_hash(other) != protocol_hash(made_by)


def test_a_context_beyond_the_positions_is_recorded_as_yarn(model: Path):
    assert settings(model, context=64)["yarn"] is None
    assert settings(model, context=96)["yarn"]["factor"] == 1.5


def test_a_context_that_yarn_cannot_reach_is_refused(model: Path):
    rope = {"rope_type": "llama3", "rope_theta": 1.0}
    (model / "config.json").write_text(json.dumps(CONFIG | {"rope_parameters": rope}))
    with pytest.raises(ModelError, match="give a context of at most 64"):
        settings(model, context=96)


def test_a_chat_template_may_be_in_the_configuration_of_the_tokenizer_or_missing(model: Path):
    (model / "chat_template.jinja").unlink()
    assert settings(model)["chat_template"] is None
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert settings(model)["chat_template"] is not None


def test_of_a_model_that_only_servers_have_no_files_are_read(caplog: pytest.LogCaptureFixture):
    found = settings("org/far-away", endpoints=("http://host:8000",))
    assert (found["model_digest"], found["chat_template"], found["budgets"]) == (None, None, [])
    assert "org/far-away: its tokenizer is not on this machine" in caplog.text
