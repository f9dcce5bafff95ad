"""W&B and TensorBoard get every number of a step; a stage that continues goes on in the same run."""

import sys
from contextlib import ExitStack

import pytest
from polaris_data.problems.reading import write_problems
from polaris_data.problems.synthetic import synthetic_problems
from polaris_train.errors import RecipeError
from polaris_train.recipe import load_recipe
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage.launch import prepare_stage
from polaris_train.stage.output import Trackers

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
        trackers = Trackers(stage(tracker), StageFolder(folder), stack)
        for record in records:
            trackers.log(record)


def test_no_tracker_is_no_work(tmp_path):
    with ExitStack() as stack:
        Trackers(stage(), StageFolder(tmp_path), stack).log(RECORDS[0])
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


@pytest.fixture
def offline(monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.mark.usefixtures("offline")
def test_a_continuation_belongs_to_the_same_wandb_run_and_another_stage_to_another(tmp_path):
    log("wandb", tmp_path, RECORDS[:2])
    first = (tmp_path / "wandb-id").read_text()
    log("wandb", tmp_path, RECORDS[2:])
    assert (tmp_path / "wandb-id").read_text() == first
    assert {path.name.rpartition("-")[2] for path in tmp_path.glob("wandb/offline-run-*")} == {first}
    other = tmp_path / "other"
    other.mkdir()
    log("wandb", other, RECORDS[:1])
    assert (other / "wandb-id").read_text() != first


@pytest.mark.usefixtures("offline")
def test_wandb_gets_the_numbers(tmp_path):
    wandb = pytest.importorskip("wandb")
    log("wandb", tmp_path, RECORDS)
    wandb.teardown()  # what a run logged is on disk once W&B's own process has ended
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    written = path.read_bytes()
    assert (tmp_path / "wandb-id").read_bytes() in written
    for text in (b"outcomes/correct", b"reward", *(repr(record["reward"]).encode() for record in RECORDS)):
        assert text in written


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_missing_tracker_is_refused_before_anything_is_written(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    write_problems(tmp_path / "problems.jsonl", synthetic_problems(16, seed=1, split="train", levels=(1,)))
    recipe = load_recipe("tiny-cpu", [f"trackers=['{name}']", "evaluate_every=0", "stages.0.temperature=1"])
    with pytest.raises(RecipeError, match=rf"{name}.* is not installed: pip install 'polaris-train\[{name}\]'"):
        prepare_stage(recipe, recipe.stages[0], tmp_path / "run", problems=str(tmp_path / "problems.jsonl"))
    assert not (tmp_path / "run").exists()
