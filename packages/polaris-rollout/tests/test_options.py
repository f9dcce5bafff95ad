"""The options that commands with an engine share."""

import sys

import pytest
import typer
from polaris_rollout import EngineSpec
from polaris_rollout.cli import engine_options
from polaris_rollout.cli.main import main
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
