"""Fingerprints of models: every byte counts, and large files are read once."""

import logging
import os
import time

import pytest
from polaris_rollout import digest, model_digest

WEIGHTS = bytes(range(256)) * 2**14


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a model whose weights count as large and were changed long ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest, "_LARGE_BYTES", len(WEIGHTS))
    monkeypatch.setattr(digest, "_SETTLED_NS", 0)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "model/model.safetensors").write_bytes(WEIGHTS)
    return tmp_path / "model"


def test_a_model_is_named_by_its_files(folder):
    before = model_digest(str(folder))
    assert before == model_digest(str(folder))
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert model_digest(str(folder)) != before
    assert model_digest("Qwen/Qwen3-4B") is None


def test_one_byte_in_the_middle_of_the_weights_is_another_model(folder):
    before = model_digest(str(folder))
    stat = (folder / "model.safetensors").stat()
    time.sleep(0.05)  # a file system's clock has ticks of up to 10 ms
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(len(WEIGHTS) // 2)
        file.write(b"\xff")
    os.utime(folder / "model.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as copying tools may do
    assert model_digest(str(folder)) != before


def test_large_files_are_read_once(folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        digests = {model_digest(str(folder)) for _ in range(3)}
    assert len(digests) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"reading {folder / 'model.safetensors'} (0.0 GB) once, for the model's fingerprint"
    ]
    (known,) = (tmp_path / "cache/polaris/digests").iterdir()
    known.write_text("0" * 64)
    assert model_digest(str(folder)) not in digests


def test_a_file_that_was_changed_a_moment_ago_is_not_remembered(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "_SETTLED_NS", 10**12)
    assert model_digest(str(folder)) == model_digest(str(folder))
    assert not (tmp_path / "cache").exists()


def test_without_a_cache_folder_the_weights_are_read_again(folder, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    assert model_digest(str(folder)) == model_digest(str(folder))
    assert "cannot be written" in caplog.text
