"""W&B and TensorBoard get every number of a step; a stage that continues goes on in the same run."""

import json
import sys
from contextlib import ExitStack

import pytest
from polaris_data.problems import write_problems
from polaris_data.synthetic import synthetic_problems
from polaris_train.errors import RecipeError
from polaris_train.recipe import ResolvedStage, load_recipe
from polaris_train.stage import prepare_stage
from polaris_train.trackers import Trackers

RECORDS = [
    {"step": step, "reward": 0.5 / step, "loss": None, "outcomes": {"correct": 3 * step}, "alarms": ["one"]}
    for step in (1, 2, 3)
]


def stage(*trackers):
    return ResolvedStage(
        run="run", stage="stage-1", model="tiny", problems="synthetic", problems_sha256="ab", context=2048,
        temperature=1.0, steps=3, trackers=trackers,
    )  # fmt: skip


def log(tracker, folder, records):
    with ExitStack() as stack:
        trackers = Trackers(stage(tracker), folder, stack)
        for record in records:
            trackers.log(record)


def test_no_tracker_is_no_work(tmp_path):
    with ExitStack() as stack:
        Trackers(stage(), tmp_path, stack).log(RECORDS[0])
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_numbers_of_a_stage_and_of_its_continuation(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log("tensorboard", tmp_path, RECORDS[:2])
    log("tensorboard", tmp_path, RECORDS[1:])  # killed after step 2, whose checkpoint was not written yet
    found = events.EventAccumulator(str(tmp_path / "tensorboard" / "stage-1")).Reload()
    assert {event.step: event.value for event in found.Scalars("reward")} == {
        1: 0.5, 2: 0.25, 3: pytest.approx(1 / 6),
    }  # fmt: skip
    assert {event.step: event.value for event in found.Scalars("outcomes/correct")} == {1: 3, 2: 6, 3: 9}
    assert set(found.Tags()["scalars"]) == {"step", "reward", "outcomes/correct"}


def log_entries(path, *, block=2**15, header=7):
    """The entries of a log in LevelDB's format, which W&B writes: pieces in blocks, each with its length and kind."""
    content, position, entry = path.read_bytes(), header, b""
    while position + header <= len(content):
        if block - position % block < header:
            position += block - position % block
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        entry += content[position + header : position + header + length]
        position += header + length
        if kind in (1, 4):  # whole, or the last piece
            yield entry
            entry = b""


def offline_runs(folder):
    """What W&B would upload of each start: the run's name for itself, and the rows of its history."""
    protocol = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        records = [protocol.Record.FromString(entry) for entry in log_entries(path)]
        (run_id,) = {record.run.run_id for record in records if record.HasField("run")}
        yield (
            run_id,
            [
                {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
                for record in records
                if record.HasField("history")
            ],
        )


def test_wandb_gets_the_numbers_and_a_continuation_belongs_to_the_same_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log("wandb", tmp_path, RECORDS[:2])
    log("wandb", tmp_path, RECORDS[2:])
    (first, rows), (second, more) = offline_runs(tmp_path)
    assert first == second == (tmp_path / "wandb-id").read_text()
    assert [(row["_step"], row["reward"], row["outcomes/correct"]) for row in rows + more] == [
        (1, 0.5, 3), (2, 0.25, 6), (3, 0.5 / 3, 9),
    ]  # fmt: skip
    other = tmp_path / "other"
    other.mkdir()
    log("wandb", other, RECORDS[:1])
    assert (other / "wandb-id").read_text() != first


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_missing_tracker_is_refused_before_anything_is_written(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    write_problems(tmp_path / "problems.jsonl", synthetic_problems(16, seed=1, split="train", levels=(1,)))
    recipe = load_recipe("tiny-cpu", [f"trackers=['{name}']"])
    with pytest.raises(RecipeError, match=rf"{name}.* is not installed: pip install 'polaris-train\[{name}\]'"):
        prepare_stage(recipe, recipe.stages[0], tmp_path / "run", problems=str(tmp_path / "problems.jsonl"))
    assert not (tmp_path / "run").exists()
