"""On-policy distillation: advantages by hand and by the divergence's own gradient, who is refused, and resumption."""

import json
import math
import shutil

import pytest
import torch
import torch.distributed as dist
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.embedded import tiny_model
from polaris_train.errors import RecipeError
from polaris_train.grpo.batches import BatchSettings, training_batches
from polaris_train.grpo.loss import LossSettings, teacher_advantages, token_losses
from polaris_train.model.packing import TrainingSequence, pack
from polaris_train.planning import find_machine, plan_recipe
from polaris_train.recipe import load_recipe
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage.capsule import record_step
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.ending import Ending
from polaris_train.stage.loop import train_stage
from polaris_train.stage.replay import replay_step
from polaris_train.stage.rollouts import Rollout
from polaris_train.stage.settings import load_stage_policy, stage_identity, start_state
from polaris_train.stage.teacher import check_teacher, open_teacher
from safetensors.torch import load_file, save_file

CPU = torch.device("cpu")
TEACHER = f"distillation.teacher={tiny_model()}"


def graded(rewards, name="p", seed=0):
    tokens = [
        tuple((7 * seed + 3 * index + place) % 400 + 5 for place in range(4 + index)) for index in range(len(rewards))
    ]
    completions = tuple(
        Completion(token_ids=each, logprobs=(-2.0,) * len(each), text="", finish_reason="stop") for each in tokens
    )
    return GradedGroup(
        group=Group(problem_id=name, prompt_token_ids=(10, 11, 12), completions=completions),
        outcomes=tuple(Outcome.CORRECT if reward else Outcome.INCORRECT for reward in rewards),
        answers=("1",) * len(rewards),
    )  # fmt: skip


def test_the_advantage_of_a_token_is_how_much_likelier_the_teacher_finds_it():
    """The student drew three tokens with 1/2, 1/4 and 1/8; the teacher gives them 1/4, 1/2 and 1/8."""
    student, teacher = (
        torch.tensor([math.log(each) for each in row]) for row in ((0.5, 0.25, 0.125), (0.25, 0.5, 0.125))
    )
    expected = [-math.log(2) / 2, math.log(2) / 2, 0.0]
    assert teacher_advantages(teacher, student, weight=0.5).tolist() == pytest.approx(expected)
    sequence = TrainingSequence(
        prompt_token_ids=(1,), token_ids=(2, 3, 4), advantages=0.1, engine_logprobs=tuple(student.tolist()),
        teacher_logprobs=tuple(teacher.tolist()),
    )  # fmt: skip
    leaf = student.clone().requires_grad_()
    terms = token_losses(leaf, torch.zeros(3), pack([sequence]), LossSettings(teacher_weight=0.5))
    terms.losses.sum().backward()
    assert leaf.grad.tolist() == pytest.approx([-0.1 - each for each in expected])
    assert float(terms.sums["reverse_kl"].sum()) == pytest.approx(0.0, abs=1e-6)


def test_what_is_descended_is_the_reverse_divergence():
    """Over every token that the student may draw, by its probability: the gradient of KL(student || teacher)."""
    torch.manual_seed(0)
    logits, teacher = torch.randn(6, requires_grad=True), torch.randn(6).log_softmax(0)
    logprobs = logits.log_softmax(0)
    (wanted,) = torch.autograd.grad((logprobs.exp() * (logprobs - teacher)).sum(), logits, retain_graph=True)
    sequence = TrainingSequence(
        prompt_token_ids=(1,), token_ids=tuple(range(6)), engine_logprobs=tuple(logprobs.tolist()),
        teacher_logprobs=tuple(teacher.tolist()), weight=tuple(logprobs.exp().tolist()),
    )  # fmt: skip
    batch = pack([sequence])
    losses = token_losses(logprobs, torch.zeros(6), batch, LossSettings(teacher_weight=1.0)).losses
    (found,) = torch.autograd.grad((losses * batch.weights).sum(), logits)
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_every_group_learns_from_a_teacher_and_rewards_count_by_their_weight():
    groups = [graded([1, 1]), graded([0, 0]), graded([1, 0])]
    (batch,) = training_batches(
        groups, BatchSettings(max_answer_tokens=20, reward_weight=0.5, normalize_std=False), step=1
    )
    assert [each.advantages for each in batch.sequences] == [0.0, 0.0, 0.0, 0.0, 0.25, -0.25]
    assert {each.weight for each in batch.sequences} == {1 / 27}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The embedded model with other opinions: half as sure of everything."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    shutil.copytree(tiny_model(), folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class MadeUp:
    """Groups of which one is all wrong."""

    def next(self, step):
        return Rollout(groups=[graded([1, 0], "a", seed=step), graded([0, 0], "b", seed=step + 9)], replayed=False)

    def position(self, step):
        return {"cursor": step}


def train(folder, teacher, *, steps):
    """Train some steps, or continue after those that have a checkpoint; return their metrics and the weights."""
    config = ResolvedStage(
        run="run", stage="stage-1", model=str(tiny_model()), problems="made up", problems_sha256="", context=64,
        max_prompt_tokens=6, temperature=1.3, steps=steps, learning_rate=1e-3, prompts_per_step=2, samples_per_prompt=2,
        distillation={"teacher": str(teacher), "weight": 0.7}, checkpoint_every=1, keep_checkpoints=9, record_steps=1,
    )  # fmt: skip
    config = config.model_copy(update={"teacher": check_teacher(config, student=config.model, context=64)})
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        state = start_state(config, load_stage_policy(config, device=CPU), folder)
        checkpointer = Checkpointer(folder.checkpoints, keep=9, identity=stage_identity(config))
        checkpointer.restore(state)
        metrics = []
        for result in train_stage(
            config, state=state, rollouts=MadeUp(), evaluate=lambda *_, **__: {}, ending=Ending(config, folder),
            checkpointer=checkpointer, teacher=open_teacher(config, CPU, None),
        ):  # fmt: skip
            record_step(result.taken, state.policy, config, folder)
            metrics.append(result.metrics)
        checkpointer.close()
        return metrics, [each.full_tensor().clone() for each in state.policy.parameters()]
    finally:
        dist.destroy_process_group()


def test_a_stage_with_a_teacher_goes_on_to_the_same_bits_and_its_steps_can_be_taken_again(teacher, tmp_path):
    metrics, weights = train(StageFolder(tmp_path / "whole"), teacher, steps=4)
    folder = StageFolder(tmp_path / "interrupted")
    first, _ = train(folder, teacher, steps=2)
    second, again = train(folder, teacher, steps=4)
    assert json.dumps(first + second) == json.dumps(metrics) and [each["step"] for each in second] == [3, 4]
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))
    assert all(each["num_tokens"] == 18 and each["reverse_kl"] != 0 for each in metrics)
    assert not [alarm for each in metrics for alarm in each["alarms"] if "all right or all wrong" in alarm]
    replay = replay_step(folder, 4)
    assert replay.identical and len(replay.answers) == 4


def test_a_policy_is_no_distance_from_itself(tmp_path):
    """Whatever the temperature: both are read at the same."""
    (only,), _ = train(StageFolder(tmp_path), tiny_model(), steps=1)
    assert only["reverse_kl"] == pytest.approx(0.0, abs=1e-6) and only["grad_norm"] < 1e-4


def test_another_teacher_is_another_run(teacher):
    names = [tiny_model(), teacher]
    recipes = [load_recipe("tiny-cpu", [f"distillation.teacher={each}"]) for each in names]
    found = [check_teacher(recipe, student=str(tiny_model()), context=256) for recipe in recipes]
    assert None not in found and found[0] != found[1]
    assert check_teacher(load_recipe("tiny-cpu"), student=str(tiny_model()), context=256) is None


def test_a_recipe_without_a_teacher_says_nothing_of_one():
    assert "distillation" not in load_recipe("tiny-cpu").model_dump(mode="json")


def test_a_teacher_with_another_vocabulary_is_refused(tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model(), other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, two = (next(token for token, number in vocabulary.items() if number == each) for each in (300, 301))
    vocabulary[one], vocabulary[two] = 301, 300
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    recipe = load_recipe("tiny-cpu", [f"distillation.teacher={other}"])
    with pytest.raises(RecipeError, match=r"another vocabulary than .*: 2 of 464 tokens differ, such as 300 "):
        check_teacher(recipe, student=str(tiny_model()), context=256)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([TEACHER, "substitution=copy"], 'substitution = "copy" fills the place'),
        (["distillation.teacher=http://host:8000"], r"at temperature 1, but the stages \['stage-1', 'stage-2', 'stage"),
        (["distillation.weight=2"], "distillation.teacher: missing"),
        ([TEACHER, "distillation.weight=0"], "distillation.weight: Input should be greater than 0"),
    ],
)
def test_what_does_not_go_with_a_teacher_is_refused(overrides, message):
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        load_recipe("tiny-cpu", overrides)


def test_the_plan_counts_the_weights_of_the_teacher():
    machine = find_machine("h100", num_ranks=1)
    alone, taught = (
        plan_recipe(load_recipe("qwen3-0.6b", overrides), machine).stages[0]
        for overrides in ([], ["distillation.teacher=Qwen/Qwen3-4B"])
    )
    parameters = taught.derived.training.teacher.parameters
    assert parameters == pytest.approx(4.02e9, rel=0.01)
    grown = taught.derived.memory.masters - alone.derived.memory.masters
    assert grown == 2 * parameters
    assert taught.time.training > alone.time.training
