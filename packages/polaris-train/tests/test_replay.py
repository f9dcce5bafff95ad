"""A recorded step is taken again to the same bits, and what was altered since is shown.

``torchrun ... test_replay.py FOLDER MODEL`` trains the same stage on several ranks.
"""

import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
from polaris_data.files import write_json
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.cli import app
from polaris_train.errors import RunFolderError
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage.capsule import read_capsule, record_step
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.ending import Ending
from polaris_train.stage.loop import train_stage
from polaris_train.stage.replay import describe_replay, replay_step
from polaris_train.stage.rollouts import Rollout
from polaris_train.stage.settings import load_reference, load_stage_policy, stage_identity, start_state
from transformers import Qwen3Config, Qwen3ForCausalLM
from typer.testing import CliRunner

VOCAB, SAMPLES, STEPS, CHECKPOINT_EVERY = 40, 4, 5, 2
CPU = torch.device("cpu")


class MadeUp:
    """Answers that nobody sampled; one group teaches nothing, one has a completion of an earlier step."""

    def next(self, step):
        rng = random.Random(step)
        rewards = [(1, 0, 0, 1), (1, 0, 0, 0), (0, 0, 0, 0), (1, 1, 0, 1)]
        groups = [
            GradedGroup(
                group=Group(problem_id=f"p{index}", prompt_token_ids=(3, 4), completions=self._completions(rng)),
                outcomes=tuple(Outcome.CORRECT if reward else Outcome.INCORRECT for reward in row),
                answers=("1",) * SAMPLES, rescued=0 if index == 1 else None, rescue_age=3 if index == 1 else 0,
            )
            for index, row in enumerate(rewards)
        ]  # fmt: skip
        return Rollout(groups=groups, replayed=False)

    def position(self, step):
        return {"cursor": step}

    def _completions(self, rng):
        def one():
            size = rng.randrange(1, 12)
            tokens = tuple(rng.randrange(VOCAB) for _ in range(size))
            logprobs = tuple(-math.log(VOCAB) + rng.randrange(-64, 64) / 128 for _ in range(size))
            return Completion(token_ids=tokens, logprobs=logprobs, text="", finish_reason="stop")

        return tuple(one() for _ in range(SAMPLES))


def train(folder, model, **settings):
    """Train a stage on these answers and record its steps; collective."""
    values = {"run": "run", "stage": "stage-1", "model": str(model), "problems": "made up", "problems_sha256": ""}
    values |= {"context": 20, "max_prompt_tokens": 6, "temperature": 1.3, "steps": STEPS, "learning_rate": 0.01}
    values |= {"prompts_per_step": 4, "samples_per_prompt": SAMPLES, "optimizer_steps_per_batch": 2, "kl_coef": 0.1}
    values |= {"checkpoint_every": CHECKPOINT_EVERY, "keep_checkpoints": 9, "record_steps": 1}
    # Each step has another rate, which neither a checkpoint nor a capsule holds.
    values |= {"lr_schedule": "cosine", "lr_warmup_steps": 2, "lr_decay_steps": STEPS, "betas": (0.9, 0.95)}
    config = ResolvedStage(**values | settings)
    state = start_state(config, load_stage_policy(config, device=CPU), folder)
    checkpointer = Checkpointer(folder.checkpoints, keep=config.keep_checkpoints, identity=stage_identity(config))
    taken = []
    for result in train_stage(
        config, state=state, rollouts=MadeUp(), evaluate=lambda *_, **__: {}, ending=Ending(config, folder),
        checkpointer=checkpointer, reference=load_reference(config, state.policy),
    ):  # fmt: skip
        record_step(result.taken, state.policy, config, folder)
        taken.append(result)
    checkpointer.close()
    return taken


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Qwen3 of a few thousand random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = Qwen3Config(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=True, max_position_embeddings=128,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def train_alone(folder, model, **settings):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        return train(folder, model, **settings)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model):
    folder = StageFolder(tmp_path_factory.mktemp("run") / "stage-1")
    return folder, train_alone(folder, model)


@pytest.fixture
def alter(trained):
    """Change the capsule of a step, and put it back afterwards."""
    path = trained[0].capsule(3)
    before = path.read_bytes()

    def change(column, row, value):
        table = pq.read_table(path)
        place = table.column_names.index(column)
        values = table[column].to_pylist()
        values[row] = value
        field = table.schema.field(column)
        changed = table.set_column(place, field, pa.array(values, field.type))
        pq.write_table(changed, path)

    yield change
    path.write_bytes(before)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_recorded_step_is_taken_again_to_the_same_bits(trained, step):
    folder, taken = trained
    replay = replay_step(folder, step)
    assert replay.identical and replay.agrees
    for number, update in enumerate(taken[step - 1].taken.updates):
        loss, norm, tokens = replay.figures[3 * number : 3 * number + 3]
        assert (loss.name, norm.name, tokens.name) == tuple(
            f"{name} {number + 1}" for name in ("loss", "gradient norm", "tokens")
        )
        assert loss.recomputed == update.sums["loss"] != 0 and norm.recomputed == update.grad_norm > 0
        assert tokens.recomputed == update.sums["tokens"] > 0
    assert len(replay.answers) == 3 * SAMPLES  # one group of four teaches nothing
    assert f"step {step} from {folder.path if step > CHECKPOINT_EVERY else ''}" in describe_replay(replay)
    assert describe_replay(replay).endswith("identical to the last bit")


def test_a_step_between_checkpoints_is_reached_through_the_recorded_ones(trained):
    folder, _ = trained
    assert replay_step(folder, 4).began_from == f"{folder.path}/checkpoints/step-000002 and steps 3 to 3"
    assert replay_step(folder, 5).began_from == f"{folder.path}/checkpoints/step-000004"


def test_a_capsule_holds_what_the_step_used(trained):
    folder, taken = trained
    capsule, step = read_capsule(folder, 2), taken[1].taken
    rewards = [each.rewards for each in capsule.groups]
    assert rewards == [each.rewards for each in step.groups]
    assert [each.rescued for each in capsule.groups] == [None, 0, None, None]
    assert capsule.updates == [replace_logprobs(each) for each in step.updates]
    assert (capsule.num_ranks, capsule.precision, capsule.config.temperature) == (1, "float32", 1.3)
    for number, (batch, update) in enumerate(zip(step.batches, step.updates, strict=True)):
        for index, (member, sequence) in enumerate(zip(batch.members, batch.sequences, strict=True)):
            kept, (place, completion) = capsule.trained[member], member
            assert capsule.groups[place].group.completions[completion].token_ids == sequence.token_ids
            assert (kept.optimizer_step, kept.advantage) == (number, sequence.advantages)
            assert kept.token_weight == sequence.weight
            assert list(kept.policy_logprobs) == update.logprobs[index].tolist()


def replace_logprobs(update):
    return type(update)(update.sums, update.maxima, update.grad_norm)


def test_one_reward_that_was_altered_is_shown(trained, alter):
    folder, _ = trained
    alter("reward", 1, 1.0)
    replay = replay_step(folder, 3)
    assert not replay.agrees and not replay.identical
    loss, norm = replay.figures[:2]
    assert not loss.agrees and not norm.agrees
    altered = [each for each in replay.answers if each.advantage != each.advantage_again]
    assert [each.problem_id for each in altered] == ["p0"] * SAMPLES
    assert [each.sample for each in altered if each.advantage < 0 < each.advantage_again] == [1]
    said = describe_replay(replay)
    assert "differs by more than the rounding of float32" in said and "p0 #1" in said


def test_a_reward_that_makes_a_group_teach_nothing_is_shown(trained, alter):
    folder, _ = trained
    alter("reward", 4, 0.0)  # of p1, the only right one
    replay = replay_step(folder, 3)
    assert not replay.agrees
    assert [each.advantage_again for each in replay.answers if each.problem_id == "p1"] == [None] * SAMPLES


@pytest.mark.parametrize("column", ["token_ids", "logprobs", "policy_logprobs"])
def test_another_token_or_log_probability_is_shown(trained, alter, column):
    folder, _ = trained
    values = pq.read_table(folder.capsule(3))[column].to_pylist()[3]
    alter(column, 3, [*values[:-1], (values[-1] + 1) % VOCAB if column == "token_ids" else values[-1] - 0.5])
    replay = replay_step(folder, 3)
    assert not replay.agrees
    if column != "logprobs":
        assert (replay.answers[0].problem_id, replay.answers[0].sample) == ("p0", 3)
        assert replay.answers[0].largest_gap > 0.01


def test_a_reward_that_is_none_is_refused(trained, alter):
    alter("reward", 1, 0.5)
    with pytest.raises(RunFolderError, match=r"rewards of 'p0' are \[0\.5\]; a reward is 0 or 1"):
        replay_step(trained[0], 3)


def test_a_step_that_is_not_recorded_is_refused_with_those_that_are(trained):
    with pytest.raises(
        RunFolderError, match=r"step 9 of .* is not recorded \(recorded are: 1, 2, 3, 4, 5\); --set rec"
    ):
        replay_step(trained[0], 9)


def test_a_step_whose_weights_are_lost_is_refused(tmp_path, model):
    folder = StageFolder(tmp_path / "stage-1")
    train_alone(folder, model, record_steps=3, keep_checkpoints=1)
    assert folder.capsule_steps() == [1, 4]
    assert replay_step(folder, 1).identical
    with pytest.raises(
        RunFolderError, match=r"those after step 0, and steps 2 to 3 are not recorded; put .*step-000003"
    ):
        replay_step(folder, 4)


def test_other_weights_under_the_same_name_are_refused(tmp_path, model):
    folder = StageFolder(tmp_path / "stage-1")
    train_alone(folder, model, steps=1)
    weights = model / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        with pytest.raises(RunFolderError, match="is not the model that the stage started from when step 1 was rec"):
            replay_step(folder, 1)
    finally:
        weights.write_bytes(before)


def test_a_checkpoint_of_another_stage_is_refused(trained, alter):
    folder, _ = trained
    path = folder.checkpoints.step(2).state
    before = path.read_text()
    path.write_text(before.replace('"temperature": 1.3', '"temperature": 1.2'))
    manifest = folder.checkpoints.step(2).manifest
    checksums = manifest.read_text()
    write_json(manifest, {})
    try:
        with pytest.raises(RunFolderError, match=r"another recipe or model: temperature was 1\.2, now 1\.3"):
            replay_step(folder, 3)
    finally:
        path.write_text(before)
        manifest.write_text(checksums)


def test_the_exit_code_says_whether_they_agree(trained, alter):
    folder, _ = trained
    arguments = ["replay", str(folder.path), "3", "--cpu", "--float32"]
    same = CliRunner().invoke(app, arguments)
    assert same.exit_code == 0 and same.stdout.endswith("identical to the last bit\n")
    alter("reward", 1, 1.0)
    different = CliRunner().invoke(app, arguments)
    assert different.exit_code == 1 and "differs by more than the rounding" in different.stdout


@pytest.mark.slow
def test_a_step_of_two_ranks_is_taken_again_by_one(tmp_path, model):
    folder = StageFolder(tmp_path / "stage-1")
    ranks = ["--standalone", "--nproc-per-node", "2", __file__, str(folder.path), str(model)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *ranks], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for step in (1, 3):
        replay = replay_step(folder, step)
        assert replay.agrees and replay.num_ranks == 2
        assert len(replay.answers) == 3 * SAMPLES
        assert all(each.largest_gap < 1e-5 for each in replay.answers)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    train(StageFolder(Path(sys.argv[1])), sys.argv[2])
    dist.destroy_process_group()
