"""What READMEs and docs show is there: every import, every command with its options, every block that can run here."""

import ast
import dataclasses
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main
from polaris_train.recipe import Recipe, Stage

ROOT = Path(__file__).resolve().parents[1]
READMES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(ROOT.glob("packages/*/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
PACKAGES = ("reward", "rollout", "data", "eval", "train")
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*) -->\n)?```(?P<language>bash|console)\n(?P<text>.*?)```", re.DOTALL)
NAMES = [f"polaris-{package}" for package in PACKAGES]
MINUTES = "takes minutes"


def blocks(readme):
    """Each shell block with what the comment before it says that it needs."""
    return [(match["mark"] or "", match["text"]) for match in BLOCK.finditer(readme.read_text(encoding="utf-8"))]


def commands(text):
    """The lines that are typed, those of the outputs of a console left out."""
    joined = text.replace("\\\n", " ")
    typed = [line.removeprefix("$ ") for line in joined.splitlines() if "$ " not in joined or line.startswith("$ ")]
    return [line for line in typed if line.strip()]


def cases(chosen):
    return [
        pytest.param(text, id=f"{readme.relative_to(ROOT)}:{number}")
        for readme in READMES
        for number, (mark, text) in enumerate(blocks(readme), 1)
        if chosen(mark)
    ]


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_every_import_of_a_readme_resolves(readme):
    text = readme.read_text("utf-8")
    shown = re.findall(r"^ *(from polaris_[\w.]+ import (?:\([^)]*\)|[^\n#`]*))", text, re.MULTILINE)
    shown += re.findall(r"`(from polaris_[\w.]+ import [^`]+)`", text)
    for statement in shown:
        (node,) = ast.parse(statement).body
        module = importlib.import_module(node.module)
        for alias in node.names:
            assert hasattr(module, alias.name), statement


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_every_dotted_name_of_a_readme_resolves(readme):
    for name in re.findall(r"`(polaris_(?:reward|rollout|data|eval|train)(?:\.\w+)+)", readme.read_text("utf-8")):
        if name == "polaris_rollout.models" or name == "polaris_rollout.graders":
            continue  # names of entry points
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:length]))
            except ModuleNotFoundError:
                continue
            for part in parts[length:]:
                found = getattr(found, part)
            break


FACES = sorted(
    ".".join(path.parent.relative_to(ROOT / "packages" / path.relative_to(ROOT).parts[1] / "src").parts)
    for path in ROOT.glob("packages/*/src/polaris_*/**/__init__.py")
)


def test_every_name_of_a_face_resolves_and_is_no_module():
    """Also once the modules behind the face were imported, which puts them on it."""
    code = (
        "import importlib, pkgutil, types\n"
        f"for name in {FACES!r}:\n"
        "    face = importlib.import_module(name)\n"
        "    for module in pkgutil.iter_modules(face.__path__):\n"
        "        if module.name != '__main__': importlib.import_module(f'{name}.{module.name}')\n"
        "    for each in getattr(face, '__all__', []):\n"
        "        assert not isinstance(getattr(face, each), types.ModuleType), (name, each)\n"
        "    print(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == FACES, done.stderr


def test_importing_all_faces_imports_nothing_heavy():
    heavy = "{'torch', 'vllm', 'transformers', 'sympy', 'datasets', 'matplotlib', 'scipy'}"
    code = f"import sys, {', '.join(FACES)}\nprint(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("text", cases(lambda mark: True))
def test_every_polaris_command_of_a_readme_is_one(text):
    modules = {name: f"{name.replace('-', '_')}.cli.main" for name in NAMES} | {"polaris": "polaris_train.cli.polaris"}
    apps = {name: importlib.import_module(module).app for name, module in modules.items()}
    for line in commands(text):
        if line.startswith("pip install") and "uv run" not in line:
            continue
        words = shlex.split(line, comments=True)
        while words and words[0] not in apps:
            words = words[1:]  # uv run --extra cpu, and the like
        if not words or words[0] == "..." or "..." in words:
            continue
        command, rest = typer.main.get_command(apps[words[0]]), words[1:]
        while rest and hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            assert not word.startswith("--") or word.partition("=")[0] in options | {"--help"}, f"{line}: {word}"


@pytest.fixture
def workplace(tmp_path):
    """A folder with the files that READMEs and docs take for given."""
    questions = [f"What is {number} + {number + 3}?" for number in range(64)]
    rows = [{"problem": question, "answer": str(2 * number + 3)} for number, question in enumerate(questions)]
    for name in ("raw.jsonl", "my.jsonl", "deepscaler.jsonl"):
        write_lines(tmp_path / name, rows)
    write_lines(tmp_path / "benchmark.jsonl", [{"problem": "How many primes are below 9?", "answer": "4"}])
    answers = [f"\\boxed{{{2 * number + 3 * (number % 2)}}}" for number in range(64)]  # every second is right
    write_lines(
        tmp_path / "my-completions.jsonl",
        [{"question": question, "response": answer} for question, answer in zip(questions, answers, strict=True)],
    )
    _write_what_upstream_has(tmp_path, rows)
    return tmp_path


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_what_upstream_has(folder, rows):
    """Write its training set, the parquet and the log of a stage, a benchmark, and answers to it, in its formats."""
    write_lines(folder / "polaris-data-53K.jsonl", [row | {"difficulty": "3/8"} for row in rows])
    write_lines(
        folder / "parquet/stage1/qwen3-4b-s1/qwen3-4b-stage1.jsonl",
        [{"index": list(range(64)), "score": [number % 9 / 8 for number in range(64)]}],
    )
    table = pa.table(
        {
            "data_source": [""] * 64,
            "prompt": [[{"content": row["problem"], "role": "user"}] for row in rows],
            "ability": ["math"] * 64,
            "reward_model": [{"ground_truth": row["answer"], "style": "rule"} for row in rows],
            "extra_info": [{"index": number, "split": "train"} for number in range(64)],
        }
    )
    pq.write_table(table, folder / "parquet/stage1/qwen3-4b-s1.parquet")
    for name in ("benchmarks", "results"):
        (folder / "evaluation" / name).mkdir(parents=True)
    pq.write_table(table.slice(0, 2), folder / "evaluation/benchmarks/aime24.parquet")
    answered = table.append_column("responses", [[[r"\boxed{3}", "none"]] * 64])
    pq.write_table(answered, folder / "evaluation/results/aime24-1.4-32-90000-20.parquet")


def run(text, folder):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", cases(lambda mark: not mark))
def test_the_blocks_without_a_mark_run(text, workplace):
    run("\n".join(commands(text)), workplace)


@pytest.mark.slow
@pytest.mark.parametrize("text", cases(lambda mark: mark == MINUTES))
def test_the_blocks_that_take_minutes_run(text, workplace):
    run(text, workplace)


@pytest.mark.parametrize("mark", [mark for readme in READMES for mark, _ in blocks(readme) if mark])
def test_a_mark_says_what_is_missing_here(mark):
    assert re.search(rf"^needs: .*(GPU|network|hour)|^run by: (packages/\S+|tests/\S+)|^{MINUTES}$", mark), mark
    for path in re.findall(r"(?:packages|tests)/\S+\.py", mark):
        assert (ROOT / path).is_file()


SMALLER = {
    "uv sync --extra gpu && source .venv/bin/activate\n": "",
    "HuggingFaceH4/aime_2024": "benchmark.jsonl",
    "--held-out 128": "--held-out 16",
    " --model Qwen/Qwen3-1.7B --context 40960": "",
    "--out runs/mine/stage-1\n": "--out runs/mine/stage-1 --num-problems 8 --answers 8\n",
    "stage qwen3-1.7b": "stage tiny-cpu",
    "--set stages.0.temperature=1.2": "--set stages.0.steps=1 --set prompts_per_step=4 --set evaluate_every=0",
    "run aime24 aime25": "run benchmark.jsonl --samples 2",
}
"""The main job with what is here: the tiny model, few answers, one step."""


@pytest.mark.slow
def test_the_main_job_runs_on_the_tiny_model(workplace):
    (text,) = [text for _, text in blocks(ROOT / "README.md") if "polaris-data import raw.jsonl" in text]
    for old, new in SMALLER.items():
        assert old in text, old
        text = text.replace(old, new)
    run(text, workplace)
    assert (workplace / "runs/mine/stage-1/model/config.json").is_file()


def test_every_setting_of_trl_on_the_page_about_other_pipelines_is_one():
    config = pytest.importorskip("trl").GRPOConfig
    page = (ROOT / "docs" / "from-sft-and-grpo.md").read_text("utf-8").partition("## Which setting is which")[2]
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    ours, theirs = (re.findall(r"`(\w+)[=`]", " ".join(row[column] for row in rows[1:])) for column in (0, 1))
    assert len(theirs) > 20
    assert set(theirs) - {"train_batch_size"} <= {field.name for field in dataclasses.fields(config)}
    assert set(ours) <= set(Recipe.model_fields) | set(Stage.model_fields)
