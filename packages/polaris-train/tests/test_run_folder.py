"""Only one module knows a path inside a run folder; two runs do not share a stage's folder."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import polaris_train
import pytest
from polaris_train.errors import RunFolderError
from polaris_train.run_folder import StageFolder

SOURCES = Path(polaris_train.__file__).parent
OTHERS = {
    *("assets", "tiny", "recipes", "planning", "known_models.json"),
    *("sharded", "adapter_config.json", "generation_config.json", "vocab.json"),
    *(".", "stage.json", "found.json"),
}
"""Folders and files of the package, of a model, and of jobs and probes while they last."""

KNOWERS = {
    *("run_folder.py", "ablation/request.py", "model/merging.py"),
    *("release/writing.py", "release/inference.py", "release/quantizing.py", "release/card.py"),
    *("release/licences.py", "verifier/files.py", "stage/host_memory.py"),
}
"""The modules that know a folder: of a run, of an ablation, which holds runs, of a model, whose files are read and
written, and of the system."""

KNOWN = re.compile(
    r"\.(json|jsonl|jsonl\.new|parquet|lock|pt|partial|damaged|new)$|^step-$|^random-$|^wandb-id$|^checkpoints$"
    r"|^rollouts$"
)


def literals(tree):
    """Yield the texts that a module makes paths of: joined with a slash, or named like a file of a run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            for part in [node.right, *getattr(node.right, "values", [])]:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and KNOWN.search(node.value):
            yield from [node.value] if " " not in node.value else []  # a sentence


def docstrings_removed(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                each for each in body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


def test_no_other_module_knows_a_path_inside_a_run_folder():
    found = [
        (path.relative_to(SOURCES).as_posix(), text)
        for path in SOURCES.rglob("*.py")
        for text in literals(docstrings_removed(ast.parse(path.read_text())))
    ]
    inside = {text for name, text in found if name == "run_folder.py"}
    assert {"resolved.json", "memory.json", "checkpoints", ".lock"} <= inside
    assert [(name, text) for name, text in found if name not in KNOWERS and text not in OTHERS] == []


def test_a_folder_is_one_runs_at_a_time_and_free_when_that_run_is_killed(tmp_path):
    code = "import sys, time; from pathlib import Path; from polaris_train.run_folder import StageFolder\n"
    code += "with StageFolder(Path(sys.argv[1])).locked(): print('locked', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with (
            pytest.raises(RunFolderError, match=f"{tmp_path} is in use by another run"),
            StageFolder(tmp_path).locked(),
        ):
            pass
        other.kill()
    with StageFolder(tmp_path).locked():
        pass


def test_what_memory_is_left_for_is_remembered(tmp_path):
    folder = StageFolder(tmp_path)
    assert folder.read_allowed_tokens() is None
    folder.write_allowed_tokens(300)
    assert folder.read_allowed_tokens() == 300
