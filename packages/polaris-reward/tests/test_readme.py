import re
import subprocess
import sys
from pathlib import Path

from polaris_reward.cli import app
from typer.main import get_command

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_python_example_prints_what_the_readme_shows() -> None:
    (example,), (shown,) = blocks("python"), blocks("text")
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == shown
    assert done.stderr == ""


def test_the_commands_print_what_the_readme_shows(tmp_path: Path) -> None:
    (rows,) = blocks("json")
    (tmp_path / "responses.jsonl").write_text(rows, encoding="utf-8")
    shown = [block for block in blocks("console") if block.startswith("$ polaris-reward")]
    assert len(shown) == 2
    for block in shown:
        command, _, expected = block.removeprefix("$ ").partition("\n")
        done = subprocess.run(
            [sys.executable, "-m", "polaris_reward", *command.split()[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert without_seconds(done.stdout + done.stderr) == without_seconds(expected)


def test_the_examples_for_files_and_for_a_loop_run(tmp_path: Path) -> None:
    (rows,) = blocks("json")
    (tmp_path / "responses.jsonl").write_text(rows, encoding="utf-8")
    elsewhere = re.compile(r"^(?:from|import) (?:trl|verifiers|nemo_gym)\b", re.MULTILINE)
    examples = [block for block in blocks("py") if not elsewhere.search(block)]
    assert len(examples) == 5
    for example in examples:
        command = [sys.executable, "-c", example]
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert len((tmp_path / "grades.jsonl").read_text(encoding="utf-8").splitlines()) == len(rows.splitlines())


def test_every_command_and_every_option_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    for name, command in get_command(app).commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        assert f"`polaris-reward {name}`" in text
        for option in (one for parameter in command.params for one in parameter.opts if one.startswith("--")):
            assert f"| `{option}" in text, option


def without_seconds(text: str) -> str:
    return re.sub(r'"seconds": [0-9.e-]+', '"seconds": _', text)
