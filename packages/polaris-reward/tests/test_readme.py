import re
import subprocess
import sys
from pathlib import Path

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


def without_seconds(text: str) -> str:
    return re.sub(r'"seconds": [0-9.e-]+', '"seconds": _', text)
