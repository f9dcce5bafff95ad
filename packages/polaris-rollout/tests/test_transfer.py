"""Weights in files: complete, of the right shapes, and read as they were written."""

import pytest
from polaris_rollout.errors import SettingError
from polaris_rollout.transfer import checkpoint_shapes, read_weights, store_weights

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file

WEIGHTS = {"embed": torch.ones(3, 2), "norm": torch.arange(2.0), "half": torch.full((4,), 1.5, dtype=torch.bfloat16)}
SHAPES = {name: tuple(tensor.shape) for name, tensor in WEIGHTS.items()}


def store(folder, weights=WEIGHTS, expected=SHAPES):
    return store_weights(weights.items(), folder / "weights", version="v1", expected=expected)


def test_weights_are_read_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr("polaris_rollout.transfer.files._SHARD_BYTES", 20)
    info = store(tmp_path).update_info()
    assert len(info["shards"]) == 2
    found = dict(read_weights(**info))
    assert found.keys() == WEIGHTS.keys()
    assert all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items()
    )


def test_a_file_that_is_damaged_or_missing_is_refused_before_a_tensor_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("polaris_rollout.transfer.files._SHARD_BYTES", 20)
    stored = store(tmp_path)
    last = stored.folder / "00001.safetensors"
    data = last.read_bytes()
    last.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"00001\.safetensors has SHA-256 .* and was written with"):
        read_weights(**stored.update_info())
    last.unlink()
    with pytest.raises(ValueError, match=r"there is no file .*00001\.safetensors; give a folder that the trainer and"):
        read_weights(**stored.update_info())


def test_weights_that_leave_a_parameter_out_or_misshape_it_are_refused_after_all_were_taken(tmp_path):
    taken = []

    def given(weights):
        for name, tensor in weights.items():
            taken.append(name)
            yield name, tensor

    lacking = {name: tensor for name, tensor in WEIGHTS.items() if name != "norm"}
    with pytest.raises(SettingError, match="weights 'v1' lack 1 of the model's 3 parameters: norm; give all"):
        store_weights(given(lacking), tmp_path / "w", version="v1", expected=SHAPES)
    assert taken == list(lacking)
    with pytest.raises(SettingError, match=r"give norm the shape \(3,\) and the model has \(2,\)"):
        store(tmp_path, WEIGHTS | {"norm": torch.ones(3)})
    store(tmp_path, lacking, None)


def test_a_folder_that_cannot_be_written_is_named_after_all_were_taken(tmp_path):
    (tmp_path / "file").write_text("")
    weights = iter(WEIGHTS.items())
    with pytest.raises(SettingError, match=r"weights 'v1' cannot be written to .*file/weights .*; free space there or"):
        store_weights(weights, tmp_path / "file" / "weights", version="v1", expected=None)
    assert next(weights, None) is None


def test_a_models_parameters_are_those_of_its_files_without_a_tied_head(tmp_path):
    save_file(WEIGHTS | {"lm_head.weight": torch.ones(3, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    assert checkpoint_shapes(tmp_path) == SHAPES
    (tmp_path / "config.json").write_text("{}")
    assert checkpoint_shapes(tmp_path) == SHAPES | {"lm_head.weight": (3, 2)}
    (tmp_path / "model.safetensors").unlink()
    assert checkpoint_shapes(tmp_path) is None
