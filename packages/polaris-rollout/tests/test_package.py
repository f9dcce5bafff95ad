"""What a stranger relies on: a light import, a missing engine said in one sentence."""

import subprocess
import sys

import pytest


def test_importing_the_package_imports_no_engine_and_no_tensor_library():
    code = "import sys, polaris_rollout; print({'torch', 'vllm', 'transformers', 'pyarrow'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_missing_engine_is_one_sentence_and_exit_code_2(tmp_path):
    try:
        import vllm  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("an engine is installed here; the isolated environment of this package has none")
    (tmp_path / "p.jsonl").write_text('{"id": "a", "question": "x"}\n')
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    command = [sys.executable, "-m", "polaris_rollout", "sample", str(tmp_path / "p.jsonl")]
    command += ["--model", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'polaris-rollout[" in done.stderr
