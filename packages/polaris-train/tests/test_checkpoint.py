"""Checkpoints: what is restored is what was saved, whatever happened since; the newest that is whole is used."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import zlib
from contextlib import contextmanager
from dataclasses import asdict

import pytest
import torch
from polaris_rollout import Completion, Group, SamplingParams
from polaris_rollout.store import write_groups
from polaris_train.errors import CheckpointMemoryError, RunFolderError
from polaris_train.grpo.rescue import RescueBuffer, Stored
from polaris_train.model.loading import load_policy
from polaris_train.model.step import StepSettings, Totals, optimizer_step
from polaris_train.run_folder import Checkpoints, StepFiles
from polaris_train.stage import checksums
from polaris_train.stage.checkpoint import Checkpointer, receipt
from polaris_train.stage.checksums import damage, write_manifest
from polaris_train.stage.training_state import TrainingState, load_weights
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

UNCLIPPED = StepSettings(max_tokens=1, max_grad_norm=1e9)
POSITION = {"epoch": 1, "cursor": 8, "permutation_seed": 5}


pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.fixture
def new_state(small_qwen3, tmp_path):
    def make(*, scaled=False, fused=True):
        policy = load_policy(str(small_qwen3), device=torch.device("cpu"), context=64)
        return TrainingState(
            policy=policy,
            optimizer=torch.optim.AdamW(policy.parameters(), lr=0.01, fused=fused),
            scaler=torch.amp.GradScaler("cpu", enabled=scaled),
            rescue=RescueBuffer(StepFiles(tmp_path / "rescue"), max_age=10, max_tokens=64, seed=0),
        )

    return make


@pytest.fixture
def checkpointer(tmp_path):
    def make(*, keep=2, logs=(), **identity):
        identity = {"learning_rate": 0.01} | identity
        return Checkpointer(Checkpoints(tmp_path / "checkpoints"), keep=keep, identity=identity, logs=logs)

    return make


def train(state, *, seed):
    """Take an optimizer step on made-up gradients."""
    for parameter in state.policy.parameters():
        parameter.grad = (parameter.detach() * 10 ** (seed + 1)).sin()
    state.optimizer.step()
    state.step += 1


RANK = """
import json
import random
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from polaris_train.run_folder import Checkpoints, StepFiles
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.training_state import TrainingState
from polaris_train.model.loading import load_policy
from polaris_train.grpo.rescue import RescueBuffer


def new_state():
    policy = load_policy(sys.argv[1], device=torch.device("cpu"), context=64)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.01, fused=True)
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    rescue = RescueBuffer(StepFiles(Path(sys.argv[2]).parent / "rescue"), max_age=10, max_tokens=64, seed=0)
    return TrainingState(policy=policy, optimizer=optimizer, scaler=scaler, rescue=rescue)


dist.init_process_group("gloo")
rank = dist.get_rank()
checkpointer = Checkpointer(Checkpoints(Path(sys.argv[2])), keep=2, identity={"learning_rate": 0.01})
checkpointer.restore(state := new_state())
for _ in range(2):
    for parameter in state.policy.parameters():
        parameter.grad = (parameter.detach() * 10 ** (state.step + 1)).sin()
    state.optimizer.step()
    state.step += 1
random.seed(rank), torch.manual_seed(rank)
checkpointer.save(state, {})
checkpointer.wait()
drawn = [random.random(), torch.rand(1).item()]
checkpointer.restore(again := new_state())
redrawn = [random.random(), torch.rand(1).item()]

# A gradient that is not finite in the shard of one rank lowers the scale on all.
again.scaler.scale(torch.ones(1))
for parameter in again.policy.parameters():
    parameter.grad = torch.ones_like(parameter)
    if rank == 1:
        parameter.grad.to_local().fill_(float("inf"))
again.scaler.unscale_(again.optimizer)
again.scaler.update()
result = {"step": again.step, "drawn": drawn, "redrawn": redrawn, "scale": again.scaler.get_scale()}
Path(sys.argv[3]).write_text(json.dumps(result))
dist.destroy_process_group()
"""


def test_training_continues_on_more_and_on_fewer_ranks(new_state, checkpointer, small_qwen3, tmp_path):
    whole = new_state(scaled=True)
    for seed in range(6):
        train(whole, seed=seed)
    state, saved = new_state(scaled=True), checkpointer()
    for seed in range(2):
        train(state, seed=seed)
    saved.save(state, POSITION)
    saved.wait()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    results = [tmp_path / f"rank-{rank}.json" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(small_qwen3), str(tmp_path / "checkpoints"), str(result)],
            env=env | {"RANK": str(rank)},
        )
        for rank, result in enumerate(results)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    first, second = (json.loads(result.read_text()) for result in results)
    assert first["step"] == second["step"] == 4
    assert first["drawn"] == first["redrawn"] != second["drawn"] == second["redrawn"]
    assert first["scale"] == second["scale"] == 2.0**15
    small = checkpointer().restore(state)
    assert small is not None and "of 2 ranks, now 1" in receipt(small, num_steps=6, num_ranks=1)
    for seed in range(4, 6):
        train(state, seed=seed)
    ours, expected = contents(state)[0], contents(whole)[0]
    for name, tensor in expected.items():
        assert torch.allclose(torch.tensor(ours[name]), torch.tensor(tensor), rtol=0, atol=1e-5), name


@pytest.mark.parametrize("before", [None, True])
def test_a_checkpoint_of_plain_adamw_continues_fused_and_the_other_way_round(new_state, checkpointer, before):
    """With a scaler, whose step torch lets go the way that an optimizer was made for, not the one that was loaded."""
    after = None if before else True
    whole, state = new_state(scaled=True, fused=before), new_state(scaled=True, fused=after)
    saved = checkpointer()
    for seed in range(2):
        train(whole, seed=seed)
    saved.save(whole, POSITION)
    saved.wait()
    saved.restore(state)
    assert [each["fused"] for each in state.optimizer.param_groups] == [after]
    for power in (3, 4):
        for mine, theirs in zip(state.policy.parameters(), whole.policy.parameters(), strict=True):
            theirs.grad = (theirs.detach() * 10**power).sin()
            mine.grad = state.scaler.scale(theirs.grad)
        whole.optimizer.step()
        totals = Totals({"loss": torch.zeros(())}, {}, {})
        taken = optimizer_step(state.policy, state.optimizer, totals, UNCLIPPED, scaler=state.scaler)
        assert taken.finite
    ours, expected = contents(state), contents(whole)
    for name, tensor in expected[0].items():
        assert torch.allclose(torch.tensor(ours[0][name]), torch.tensor(tensor), rtol=1e-6, atol=1e-7), name
    for mine, theirs in zip(ours[1], expected[1], strict=True):
        assert mine["step"] == theirs["step"] == 4
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.allclose(torch.tensor(mine[name]), torch.tensor(theirs[name]), rtol=1e-5, atol=1e-7)


def contents(state):
    """Everything in a state that training changes, as plain values."""
    moments = [
        {name: getattr(value, "_local_tensor", value).tolist() for name, value in state.optimizer.state[each].items()}
        for each in state.policy.parameters()
    ]
    weights = {name: tensor.tolist() for name, tensor in state.policy.weights()}
    return weights, moments, state.scaler.state_dict(), dict(state.rescue.stored), state.step, state.skipped_in_row


def test_everything_is_restored(new_state, checkpointer, tmp_path):
    state = new_state(scaled=True)
    train(state, seed=1)
    state.scaler.scale(torch.ones(1))
    state.scaler.update(512.0)
    state.skipped_in_row = 2
    state.rescue.adopt({"p": ANSWER})
    random.seed(3), torch.manual_seed(4)
    saved = checkpointer()
    saved.save(state, POSITION)
    saved.wait()
    expected = contents(state), random.random(), torch.rand(3).tolist()

    other = new_state(scaled=True)
    small = checkpointer().restore(other)
    assert (contents(other), random.random(), torch.rand(3).tolist()) == expected
    assert small is not None and small["position"] == POSITION


ANSWER = Stored(
    Group(
        problem_id="p", prompt_token_ids=(1, 2), weights_version="run/stage+3",
        completions=(Completion(token_ids=(5, 6), logprobs=(-0.25, -1.5), text="ab", finish_reason="stop"),),
    ),
    "7",
    1,
)  # fmt: skip


@pytest.mark.parametrize("version", ["rescue.pt", "rescue.parquet"])
def test_answers_for_rescue_that_earlier_versions_stored_in_checkpoints_are_read(
    new_state, checkpointer, tmp_path, version
):
    state, saved = new_state(), checkpointer()
    train(state, seed=1)
    saved.save(state, POSITION)
    saved.wait()
    older = tmp_path / "checkpoints" / "step-000001" / version
    if version == "rescue.pt":
        torch.save([asdict(ANSWER)], older)
    else:
        write_groups(older, [ANSWER.group], SamplingParams(), columns={"answer": ["7"], "step": [1]})
    checkpointer().restore(other := new_state())
    assert other.rescue.stored == {"p": 1}
    assert other.rescue.read(["p"]) == {"p": ANSWER}


def test_a_tied_head_is_stored_once(new_state, checkpointer, tmp_path):
    state, saved = new_state(), checkpointer()
    train(state, seed=1)
    saved.save(state, POSITION)
    saved.wait()
    stored = FileSystemReader(tmp_path / "checkpoints" / "step-000001").read_metadata().state_dict_metadata
    embedded = [name for name in stored if "embed_tokens" in name or "lm_head" in name]
    tensors = [name for name in embedded if isinstance(stored[name], TensorStorageMetadata) and "step" not in name]
    assert sorted(name.rpartition(".")[2] for name in tensors) == ["exp_avg", "exp_avg_sq", "weight"]


@pytest.fixture
def no_room_for_threads():
    """A context in which every new thread asks for a stack larger than there is address space for."""

    @contextmanager
    def scarce():
        usual = threading.stack_size(2**46)
        try:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                threading.Thread(target=print).start()
            yield
        finally:
            threading.stack_size(usual)

    return scarce


def test_a_checkpoint_is_whole_where_no_thread_can_be_started(new_state, checkpointer, tmp_path, no_room_for_threads):
    state, saved = new_state(), checkpointer()
    train(state, seed=1)
    saved.save(state, POSITION)
    saved.wait()
    folder = Checkpoints(tmp_path / "checkpoints").step(1)
    before = folder.manifest.read_bytes()
    with no_room_for_threads():
        write_manifest(folder)
    assert folder.manifest.read_bytes() == before and damage(folder) is None


def test_a_large_file_has_a_checksum_of_each_range_and_one_of_the_whole_is_read_as_well(monkeypatch, tmp_path):
    monkeypatch.setattr(checksums, "RANGE_BYTES", 1000)
    folder = Checkpoints(tmp_path).step(1)
    folder.path.mkdir(parents=True)
    content, weights = random.Random(0).randbytes(2500), folder.path / "weights"
    for name, size in {"empty": 0, "small": 1000, "weights": 2500}.items():
        (folder.path / name).write_bytes(content[:size])
    write_manifest(folder)
    small = {"empty": 0, "small": zlib.crc32(content[:1000])}
    ranges = [zlib.crc32(content[start : start + 1000]) for start in (0, 1000, 2000)]
    assert json.loads(folder.manifest.read_text()) == small | {"weights": ranges}
    before = folder.manifest.read_text()
    of_earlier_versions = json.dumps(small | {"weights": zlib.crc32(content)})
    flipped = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in (0, 999, 1000, 2499)]
    for manifest in (before, of_earlier_versions):
        folder.manifest.write_text(manifest)
        weights.write_bytes(content)
        assert damage(folder) is None
        for spoilt in [*flipped, b"", content[:1000], content[:2000], content[:-1], content + b"\0", content * 2]:
            weights.write_bytes(spoilt)
            assert damage(folder) == "weights has changed since it was written"


def test_a_checkpoint_whose_thread_cannot_be_started_says_that_memory_ran_out(
    new_state, checkpointer, no_room_for_threads
):
    train(state := new_state(), seed=1)
    saved = checkpointer()
    with no_room_for_threads(), pytest.raises(CheckpointMemoryError, match="can't start new thread"):
        saved.save(state, POSITION)
    saved.save(state, POSITION)
    saved.wait()
    checkpointer().restore(other := new_state())
    assert contents(other) == contents(state)


def test_memory_that_runs_out_while_a_checkpoint_is_written_is_not_taken_for_a_full_disk(new_state, tmp_path):
    def exhaust(step):
        bytearray(2**62)

    saved = Checkpointer(Checkpoints(tmp_path / "checkpoints"), keep=2, identity={}, written=exhaust)
    train(state := new_state(), seed=1)
    saved.save(state, POSITION)
    with pytest.raises(CheckpointMemoryError, match=r"memory ran out while a checkpoint was written \(MemoryError\)"):
        saved.wait()


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(new_state, checkpointer):
    state = new_state()
    train(state, seed=1)
    saved = checkpointer()
    saved.save(state, POSITION)
    train(state, seed=2)
    saved.wait()
    other = new_state()
    checkpointer().restore(other)
    train(other, seed=2)
    assert contents(other) == contents(state)


def test_a_checkpoint_holds_the_weights_of_when_it_was_asked_for(new_state, checkpointer):
    state = new_state()
    train(state, seed=1)
    before = contents(state)
    saved = checkpointer()
    saved.save(state, POSITION)
    with torch.no_grad():  # at once, while it is being written
        for parameter in state.policy.parameters():
            parameter.fill_(7.0)
            state.optimizer.state[parameter]["exp_avg"].fill_(7.0)
    saved.wait()
    checkpointer().restore(state)
    assert contents(state) == before


def test_saving_before_the_first_update_does_not_change_the_training_after_it(new_state, checkpointer):
    state, other = new_state(), new_state()
    saved = checkpointer()
    saved.save(state, POSITION)
    saved.wait()
    resumed = new_state()
    checkpointer().restore(resumed)
    for each in (state, other, resumed):
        train(each, seed=1)
    assert contents(state) == contents(other) == contents(resumed)


def test_the_newest_are_kept(new_state, checkpointer, tmp_path):
    state, saved = new_state(), checkpointer(keep=2)
    for seed in range(4):
        train(state, seed=seed)
        saved.save(state, POSITION)
    saved.wait()
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3, 4]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000003", "step-000004"]


def said_by_us(caplog):
    return [record.message for record in caplog.records if record.name == "polaris_train.stage.checkpoint"]


def flip_a_byte(folder):
    path = next(folder.glob("*.distcp"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a flipped byte": (flip_a_byte, "distcp has changed since it was written"),
    "a missing file": (lambda folder: (folder / "random-00000.pt").unlink(), "random-00000.pt is missing"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
    "a cut manifest": (lambda folder: (folder / "manifest.json").write_text('{"state'), "Unterminated"),
    "a cut state": (lambda folder: (folder / "state.json").write_text('{"step'), "state.json has changed"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(new_state, checkpointer, tmp_path, caplog, damage):
    state, saved = new_state(), checkpointer()
    kept = []
    for seed in range(2):
        train(state, seed=seed)
        kept.append(contents(state))
        saved.save(state, POSITION)
    saved.wait()
    spoil, message = DAMAGES[damage]
    folder = tmp_path / "checkpoints" / "step-000002"
    spoil(folder)
    load_weights(Checkpoints(tmp_path / "checkpoints"), loaded := new_state().policy)
    assert {name: tensor.tolist() for name, tensor in loaded.weights()} == kept[0][0]
    assert folder.is_dir()  # an export only reads
    other = new_state()
    checkpointer().restore(other)
    assert contents(other) == kept[0]
    (said,) = said_by_us(caplog)
    assert f"{folder} is damaged" in said and message in said and "step-000001 is used" in said
    assert not folder.exists() and (tmp_path / "checkpoints" / "step-000002.damaged").is_dir()


def test_without_a_whole_checkpoint_training_starts_again(new_state, checkpointer, tmp_path, caplog):
    state, saved = new_state(), checkpointer()
    train(state, seed=0)
    saved.save(state, POSITION)
    saved.wait()
    flip_a_byte(tmp_path / "checkpoints" / "step-000001")
    other = new_state()
    untouched = {name: tensor.tolist() for name, tensor in other.policy.weights()}
    assert checkpointer().restore(other) is None
    assert {name: tensor.tolist() for name, tensor in other.policy.weights()} == untouched
    assert "the stage starts again" in said_by_us(caplog)[0]


def test_a_checkpoint_of_another_recipe_or_model_is_refused_with_the_difference(new_state, checkpointer, tmp_path):
    state, saved = new_state(), checkpointer(digest="a1")
    train(state, seed=0)
    saved.save(state, POSITION)
    saved.wait()
    with pytest.raises(RunFolderError, match=r"digest was 'a1', now 'b2'; learning_rate was 0.01, now 0.02"):
        checkpointer(learning_rate=0.02, digest="b2").restore(new_state())
    assert Checkpoints(tmp_path / "checkpoints").steps() == [1]


def test_logs_are_cut_back_to_the_checkpoint(new_state, checkpointer, tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n')
    state, saved = new_state(), checkpointer(logs=[log])
    train(state, seed=0)
    saved.save(state, POSITION)
    saved.wait()
    log.write_text('{"step": 1}\n{"step": 2}\n{"st')
    checkpointer(logs=[log]).restore(new_state())
    assert log.read_text() == '{"step": 1}\n'
    log.write_text("")
    with pytest.raises(RunFolderError, match=r"metrics.jsonl has 0 bytes but had 12 at the checkpoint"):
        checkpointer(logs=[log]).restore(new_state())


def test_the_receipt_says_what_is_continued(new_state, checkpointer, tmp_path):
    (tmp_path / "visits.jsonl").write_text("1234\n")
    state, saved = new_state(), checkpointer(logs=[tmp_path / "visits.jsonl"])
    train(state, seed=0)
    saved.save(state, POSITION)
    saved.wait()
    small = checkpointer().restore(new_state())
    assert small is not None
    assert receipt(small, num_steps=9, num_ranks=1) == (
        "continuing after step 1 of 9: weights, optimizer and random states of 1 rank; epoch 1, cursor 8, "
        "permutation seed 5; 0 answers for rescue; visits.jsonl 5 bytes"
    )
    assert "of 1 rank, now 2: random states start anew" in receipt(small, num_steps=9, num_ranks=2)


def test_a_checkpoint_that_could_not_be_written_is_reported(new_state, checkpointer, tmp_path):
    state, saved = new_state(), checkpointer()
    train(state, seed=0)
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000001" / "in the way").touch()
    saved.save(state, POSITION)
    with pytest.raises(RunFolderError, match=r"a checkpoint could not be written: .*not empty"):
        saved.wait()
    saved.wait()  # it was said once


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(new_state, checkpointer, tmp_path):
    state, saved = new_state(), checkpointer()
    train(state, seed=0)
    before = contents(state)
    saved.save(state, POSITION)
    saved.wait()
    half = tmp_path / "checkpoints" / "step-000002.partial"
    shutil.copytree(tmp_path / "checkpoints" / "step-000001", half)
    (half / "manifest.json").unlink()
    other = new_state()
    checkpointer().restore(other)
    assert contents(other) == before
    train(other, seed=1)
    again = checkpointer()
    again.save(other, POSITION)
    again.wait()
    assert not half.exists() and Checkpoints(tmp_path / "checkpoints").steps() == [1, 2]
