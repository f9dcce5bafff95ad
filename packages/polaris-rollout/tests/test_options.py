"""The options that commands with an engine share."""

import json
import sys

import pytest
import typer
from polaris_rollout import ChatFormat, EngineSpec, SettingError
from polaris_rollout.cli import engine_options
from polaris_rollout.cli.main import main
from polaris_rollout.cli.options import parse_engine_options
from polaris_rollout.engines import answers_within
from typer.testing import CliRunner


def parsed(*arguments, **settings):
    """Return the spec that a command is given, or what it says instead."""
    given = []
    app = typer.Typer()

    @app.command()
    @engine_options(**settings)
    def command(out: str, engine: EngineSpec, samples: int = 8) -> None:
        given.append((out, engine, samples))

    result = CliRunner().invoke(app, ["folder", *arguments])
    assert given or result.exit_code == 2
    return given[0] if given else result.output


def test_a_command_is_given_one_engine_spec():
    assert parsed() == ("folder", EngineSpec("tiny"), 8)
    asked = ["--model", "m", "--context", "64", "--tensor-parallel", "2", "--stall-limit", "9", "--no-canary"]
    expected = EngineSpec("m", context=64, tensor_parallel=2, stall_limit_s=9.0, canary=False)
    assert parsed(*asked, "--samples", "3") == ("folder", expected, 3)
    servers = parsed("--endpoint", "http://a:1", "--endpoint", "http://b:1")[1]
    assert servers == EngineSpec("tiny", endpoints=("http://a:1", "http://b:1"))


def test_a_command_may_name_its_own_model_and_ask_for_yarn():
    assert parsed(demo_model=False)[1].model == ""
    assert parsed("--yarn-factor", "2", yarn_factor=True)[1].yarn_factor == 2.0
    assert "--yarn-factor" in parsed("--yarn-factor", "2")
    assert "--context" in parsed("--context", "1")
    assert parsed("--context", "1", least_context=1)[1].context == 1


@pytest.mark.parametrize("command", [["sample", "p.jsonl"], ["temperature", "p.jsonl"]])
def test_gpus_of_servers_are_not_asked_for_here(command, tmp_path, monkeypatch, capsys):
    options = ["--out", str(tmp_path), "--endpoint", "http://127.0.0.1:9", "--tensor-parallel", "2"]
    monkeypatch.setattr(sys, "argv", ["polaris-rollout", *command, *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "--tensor-parallel is for the engine in this process" in capsys.readouterr().err


def test_what_stands_around_a_question_is_part_of_the_spec():
    asked = ["--system-prompt", "Be brief.", "--chat-template-kwargs", '{"enable_thinking": false}']
    spec = parsed(*asked, "--data-parallel", "2", prompts=True)[1]
    assert spec.chat == ChatFormat(system_prompt="Be brief.", arguments={"enable_thinking": False})
    assert spec.data_parallel == 2
    assert parsed("--no-chat-template", prompts=True)[1].chat == ChatFormat(is_plain=True)
    assert parsed("--text-only", "--endpoint", "http://a:1", text_only=True)[1].text_only
    assert "--system-prompt" in parsed("--system-prompt", "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--chat-template-kwargs", "thinking"], "give a JSON object such as"),
        (["--chat-template-kwargs", "[1]"], "--chat-template-kwargs is '[1]'"),
        (["--no-chat-template", "--system-prompt", "x"], "no place for a system prompt"),
        (["--endpoint", "http://127.0.0.1:9", "--data-parallel", "2"], "give several --endpoint instead"),
        (["--min-p", "1"], "min_p is 1.0; give 0 (off) or a number below 1"),
        (["--chat-template-kwargs", '{"enable_thinkin": true}'], "never mentions 'enable_thinkin'"),
        (["--model", "plain", "--system-prompt", "x"], "plain has no chat template"),
    ],
)
def test_a_wrong_option_of_the_prompt_is_one_sentence(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, config in (("with", {"chat_template": "{{ messages }} {{ enable_thinking }}"}), ("plain", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"max_position_embeddings": 64}')
        (tmp_path / name / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "p.jsonl").write_text('{"id": "a", "question": "1+1?"}\n')
    model = [] if "--model" in options else ["--model", "with"]
    monkeypatch.setattr(sys, "argv", ["polaris-rollout", "sample", "p.jsonl", "--out", "out", *model, *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_options_of_vllm_are_read_as_json_or_text_and_belong_to_the_spec():
    asked = ["kv_cache_dtype=fp8", "max-num-batched-tokens=4096", 'speculative_config={"method": "ngram"}']
    spec = parsed(*(word for each in asked for word in ("--engine-option", each)))[1]
    deciding = {"kv_cache_dtype": "fp8", "speculative_config": {"method": "ngram"}}
    assert spec.options == deciding | {"max_num_batched_tokens": 4096}
    assert spec.option_settings() == {"engine_options": deciding}
    assert EngineSpec("m", options={"gpu_memory_utilization": 0.5}).option_settings() == {}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("kv_cache_dtype", "--engine-option 'kv_cache_dtype': write it as name=value"),
        ("max_model_len=4", "engine option 'max_model_len' cannot be set: it is the context"),
        ("logprobs_mode=raw_logits", "log-probabilities are those of the temperature"),
    ],
)
def test_an_option_of_vllm_that_cannot_be_is_refused(option, message):
    with pytest.raises(SettingError) as refused:
        parse_engine_options([option])
    assert message in str(refused.value)


def test_an_option_is_not_given_twice_nor_to_servers():
    with pytest.raises(SettingError, match="given twice, as 1 and '2'; give one"):
        parse_engine_options(["block_size=1", "block-size=2"])
    with pytest.raises(AssertionError):
        parsed("--endpoint", "http://a:1", "--engine-option", "block_size=1")


def test_a_cache_holds_as_many_answers_as_have_three_eighths_of_their_context():
    assert answers_within(48_000, 16_000) == 8
    assert answers_within(100, 16_000) == 1
