import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"

NEEDS_AN_ENGINE = "# needs an engine\n"


def test_the_examples_of_the_readme_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert any(NEEDS_AN_ENGINE in block for block in blocks)
    namespace = {}
    for block in blocks:
        compile(block, "README.md", "exec")
        if NEEDS_AN_ENGINE in block:
            continue
        exec(block, namespace)
        printed = capsys.readouterr().out
        assert all(value in printed for value in re.findall(r"# prints: (.+)", block))


def test_the_readme_names_every_command_and_its_options():
    import typer.main
    from polaris_data.cli.main import app

    text = README.read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"polaris-data {name}" in text
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or option == "--help" or f"`{option}" in text, option


def test_split_prints_what_the_readme_shows(tmp_path):
    ((arguments, shown),) = re.findall(r"```text\n\$ polaris-data (split .*)\n([^$]*?)```", README.read_text("utf-8"))
    process = [sys.executable, "-m", "polaris_data", *arguments.split()]
    assert subprocess.run(process, cwd=tmp_path, capture_output=True, text=True).stdout == shown
