"""The pages about runs, from a small run folder that the functions which make real ones make here.

Only what an engine samples, a temperature search and the end of a stage say is written by hand.
"""

import base64
import gzip
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from polaris_data import (
    Difficulty,
    Journal,
    read_visits,
    select,
    select_by_visits,
    synthetic_problems,
    write_problems,
    write_selection,
)
from polaris_data.selection import (
    PUBLISHED_FOR_PROFILES,
    PUBLISHED_FOR_VISITS,
    Decision,
    attempts_of,
    write_decisions,
)
from polaris_data.selection.visits import attempts_by_problem
from polaris_eval import MixedProblemsError, summarize
from polaris_eval.running import protocol_hash
from polaris_eval.scores import read_scores, write_scores
from polaris_reward import Outcome
from polaris_rollout import Completion, Group, SamplingParams
from polaris_rollout.store import write_groups
from polaris_train.cli.polaris import app
from polaris_train.controller import explain_run
from polaris_train.embedded import tiny_model
from polaris_train.errors import RunFolderError
from polaris_train.grpo import UpdateStats
from polaris_train.recipe import Recipe, Stage
from polaris_train.records import GradedGroup
from polaris_train.release import write_release
from polaris_train.report import completions, write_comparison, write_report
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import RunFolder
from polaris_train.stage.monitor import alarms, step_metrics
from polaris_train.stage.rollouts import visits
from typer.testing import CliRunner

NUM_PROBLEMS = 12
NUM_SAMPLES = 4
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \\(x_1^2\\)"
"""What a model may write."""

PARAMS = SamplingParams(temperature=1.0, max_tokens=64, seed=0)


def make_run(path: Path, *, num_stages: int = 2, steps: int = 3, gain: int = 1, tokens: int = 5) -> RunFolder:
    """Write a finished run.

    Args:
        path: Its folder.
        num_stages: Stages that have run, of two.
        steps: Of each.
        gain: How much better the last model is than the first.
        tokens: Of each completion, about.
    """
    run = RunFolder(path)
    problems = synthetic_problems(NUM_PROBLEMS, seed=0, split="train")
    recipe = Recipe(
        name="made",
        model="tiny",
        problems="synthetic",
        prompts_per_step=4,
        samples_per_prompt=NUM_SAMPLES,
        max_prompt_tokens=16,
        evaluate_every=1,
        stages=tuple(Stage(name=f"stage-{n}", context=80 * n, temperature="auto", steps=steps) for n in (1, 2)),
    )
    write(run.recipe, recipe.model_dump_json())
    for place in (run.imported, run.checked, run.deduplicated, run.training):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_problems(place, problems)
    write_problems(run.held_out, synthetic_problems(4, seed=0, split="held-out"))
    profiled = [
        Difficulty(problem_id=each.problem_id, num_samples=8, num_correct=n % 9, num_truncated=0, mean_tokens=9.0)
        for n, each in enumerate(problems)
    ]
    journal = Journal(run.profile)
    journal.extend([{name: getattr(each, name) for name in Difficulty.__slots__} for each in profiled])
    journal.finish(lambda record: record["problem_id"])
    decisions = select(problems, profiled)
    write_selection(
        run.decisions.parent, problems, decisions, evidence=attempts_of(profiled), rules=PUBLISHED_FOR_PROFILES
    )
    for number, stage in enumerate(recipe.stages[:num_stages]):
        if number:
            seen = read_visits([run.stage(recipe.stages[number - 1].name).visits]).visits
            write_selection(
                run.stage(stage.name).decisions.parent,
                problems,
                select_by_visits(problems, seen),
                evidence=attempts_by_problem(seen),
                rules=PUBLISHED_FOR_VISITS,
            )
        _make_stage(run, recipe, stage, problems, tokens)
        finish_step(run, f"{stage.name}.train", minute=number)
    for name, better in (("start", 0), ("final", gain)):
        evaluate(run, name, better)
    return run


def _make_stage(run: RunFolder, recipe: Recipe, stage: Stage, problems, tokens: int) -> None:
    folder = run.stage(stage.name)
    changing = {**recipe.constants(), "context": stage.context, "steps": stage.steps}
    resolved = ResolvedStage(
        **changing, run=run.path.name, stage=stage.name, model="tiny", temperature=1.05, problems_sha256="0" * 64
    )
    folder.path.mkdir(parents=True, exist_ok=True)
    write(folder.resolved, resolved.model_dump_json())
    write_problems(folder.problems, problems)
    write(folder.temperature, json.dumps(searched(1.05)))
    history = []
    for step in range(1, stage.steps + 1):
        groups = [graded(problem.problem_id, step, number, tokens) for number, problem in enumerate(problems[:4])]
        folder.rollout(step).parent.mkdir(exist_ok=True)
        write_groups(folder.rollout(step), [each.group for each in groups], PARAMS, columns=columns(groups))
        line = step_metrics(step, groups, stats(step))
        line["alarms"] = alarms(line, history)
        history.append(line)
        line["evaluations"] = {"held-out": {"mean@4": 0.3 + 0.1 * step, "low": 0.2, "high": 0.8}}
        cost = {"step": step, "replayed": False, "seconds": {"sample": 2.0, "update": 1.0}, "peak_memory_gib": {}}
        for file, records in (
            (folder.metrics, [line]),
            (folder.performance, [cost]),
            (
                folder.visits,
                [vars_of(each) for each in visits(groups, run=run.path.name, stage=stage.name, step=step)],
            ),
        ):
            with file.open("a") as lines:
                lines.writelines(json.dumps(record) + "\n" for record in records)
    points = [{"step": step, "value": 0.3 + 0.1 * step, "interval": [0.2, 0.8]} for step in range(1, stage.steps + 1)]
    outcome = {
        "stopped": {
            "step": stage.steps,
            "reason": "steps",
            "sentence": f"step {stage.steps}: all steps are done",
            "evidence": {},
        },
        "chosen": {
            "step": stage.steps,
            "sentence": f"step {stage.steps}: held-out accuracy is highest there",
            "evidence": {"held_out": points, "difference": None},
        },
    }
    write(folder.outcome, json.dumps(outcome))


def graded(problem_id: str, step: int, number: int, tokens: int) -> GradedGroup:
    """Return a group of which ``number`` completions are correct."""
    completions = tuple(
        Completion(
            token_ids=tuple(range(tokens + sample)),
            logprobs=(-0.5,) * (tokens + sample),
            text=f"{HOSTILE} step {step}, problem {number}, sample {sample}",
            finish_reason="length" if sample == 3 else "stop",
        )
        for sample in range(NUM_SAMPLES)
    )
    group = Group(problem_id=problem_id, prompt_token_ids=(1, 2), completions=completions, weights_version=f"{step}")
    outcomes = tuple(Outcome.CORRECT if sample < number else Outcome.INCORRECT for sample in range(NUM_SAMPLES))
    return GradedGroup(group=group, outcomes=outcomes, answers=(HOSTILE, "7", None, "8"))


def columns(groups: list[GradedGroup]) -> dict[str, list[str | None]]:
    """Return what the grader said, as a stage keeps it."""
    return {
        "outcome": [str(outcome) for each in groups for outcome in each.outcomes],
        "answer": [answer for each in groups for answer in each.answers],
    }


def stats(step: int) -> UpdateStats:
    """Return what an update did; one group was rescued."""
    return UpdateStats(
        loss=0.1,
        grad_norm=0.5,
        skipped_updates=0,
        overflows=0,
        num_tokens=60,
        entropy=0.4,
        prob_gap_mean=0.02,
        logprob_gap_max=0.1,
        mismatch_kl=1e-4,
        ess=0.99,
        mismatch_share=0.0,
        clipped_share=0.0,
        kl=0.0,
        copied_groups=0,
        rescued_groups=1,
        rescue_age=float(step),
        rescue_share=0.1,
    )


def searched(temperature: float) -> dict[str, object]:
    """Return a report of a temperature search, as ``polaris-rollout temperature`` writes it."""
    around = {"value": 0.5, "low": 0.4, "high": 0.6}
    grid = [0.6, 1.0, 1.4]
    points = [
        {
            "temperature": each,
            "num_samples": 4,
            "accuracy": around,
            "diversity": None if each == 0.6 else around,
            "truncated": 0.0,
            "mean_tokens": 8.0,
        }
        for each in grid
    ]
    return {
        "temperature": temperature,
        "reason": "accuracy has lost at most 2% there",
        "warnings": ["accuracy is not monotone: it dips"],
        "measure": {"name": "published", "unit": "word", "n": 4, "num_samples": 32, "num_tokens": None},
        "target_diversity": None,
        "diversity": around,
        "level": 0.95,
        "zones": {"exploration": {"value": 1.0, "low": 0.9, "high": 1.1, "loss": 0.02}, "collapse": None},
        "curve": points,
        "fit": {"temperatures": grid, **{name: [0.5] * 3 for name in ("accuracy", "accuracy_low", "accuracy_high")}},
        "sampled_tokens": 1234,
    }


def evaluate(run: RunFolder, name: str, better: int, *, seed: int = 3) -> None:
    """Write an evaluation in which each of four problems is solved ``better`` times more often."""
    records = [
        {
            "problem_id": each.problem_id,
            "question": each.question,
            "references": list(each.references),
            "completions": [
                {
                    "text": HOSTILE,
                    "num_tokens": 7,
                    "finish_reason": "stop",
                    "answer": "1",
                    "outcome": str(Outcome.CORRECT if sample < number % 3 + better else Outcome.INCORRECT),
                }
                for sample in range(NUM_SAMPLES)
            ],
        }
        for number, each in enumerate(synthetic_problems(4, seed=seed, split="held-out"))
    ]
    folder = run.evaluation(name)
    folder.mkdir(parents=True, exist_ok=True)
    protocol = {"temperature": 1.0, "model": name}
    write_scores(folder, [summarize("bench", records)], model=f"model <{name}>", protocol=protocol)
    finish_step(run, f"evaluate.{name}", minute=9)


def finish_step(run: RunFolder, name: str, *, minute: int) -> None:
    """Write the manifest of a step."""
    started, finished = (f"2026-11-27T10:{minute:02d}:{second:02d}Z" for second in (0, 30))
    manifest = {"step": name, "argv": [], "fingerprint": {}, "started": started, "finished": finished, "seconds": 30.0}
    write(run.path / "steps" / f"{name}.json", json.dumps(manifest))


def vars_of(record: object) -> dict[str, object]:
    """Return the fields of a record with slots."""
    return {name: getattr(record, name) for name in record.__slots__}


def write(path: Path, text: str) -> None:
    """Write a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("runs") / "finished")


def read(files: tuple[Path, Path]) -> tuple[str, str]:
    page, markdown = files
    return page.read_text(), markdown.read_text()


def unpack(line: str):
    return json.loads(gzip.decompress(base64.b64decode(line)))


def packs(page: str) -> dict[str, list[str]]:
    found = re.findall(r'<script type="application/octet-stream" data-step="([^"]+)">([^<]+)</script>', page)
    return {key: lines.split("\n") for key, lines in found}


def test_every_decision_of_a_finished_run_is_on_both_pages(finished):
    for text in read(write_report(finished.path)):
        assert "ended (steps): step 3: all steps are done" in text
        assert "handed on: step 3: held-out accuracy is highest there" in text
        assert "accuracy has lost at most 2% there" in text
        assert "accuracy is not monotone: it dips" in text
        assert "the published score: share of distinct 4-grams of words in 32 whole answers" in text
        assert "11 of 12 stay; dropped: always solved (1)" in text
        assert "prob_gap_mean is 0.02, above 0.01" in text.replace("\\_", "_")
        assert "last model − first model, paired by problem" in text
        assert "2026-11-27T10:00:00Z" in text
    page = finished.report.read_text()
    assert page.count("<figure>") >= 14


def test_the_curriculum_of_a_stage_stands_before_its_training_and_no_other_stage_has_one(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    stage = run.stage("stage-2")
    rules = {"select": ["keep level=1,2"], "hint_share": 0.5, "revisit_below": 0.25, "refill_below": 0.5}
    write(stage.resolved, json.dumps(json.loads(stage.resolved.read_text()) | rules))
    lines = [json.loads(line) for line in stage.metrics.read_text().splitlines()]
    added = [{**line, "refilled_groups": count} for line, count in zip(lines, (0, 2, 3), strict=True)]
    write(stage.metrics, "".join(json.dumps(line) + "\n" for line in added))
    problems = synthetic_problems(NUM_PROBLEMS, seed=0, split="train")
    decisions = [
        Decision(problem_id=each.problem_id, kept=kept, reason=reason)
        for each, (kept, reason) in zip(
            problems, [(True, "never solved; a hint")] * 2 + [(True, "no rule drops it")] + [(False, "level")] * 9,
            strict=True,
        )
    ]  # fmt: skip
    write_decisions(stage.curriculum.parent, decisions, evidence={}, rules=(), seed=0)
    _, markdown = read(write_report(run.path))
    said = next(line for line in markdown.splitlines() if "stage-2: curriculum" in line)
    assert said.endswith(
        "(done): 3 of 12 are trained on; 2: never solved; a hint; 1: no rule drops it; 9: level; what is solved in "
        "less than 25% of a pass comes once more after it; 5 groups were sampled beside the planned ones, in 2 of 3 "
        "steps, since less than 50% were informative"
    )
    assert "stage-1: curriculum" not in markdown


def test_the_same_folder_gives_the_same_bytes(finished, tmp_path):
    first = [path.read_bytes() for path in write_report(finished.path, out=tmp_path / "one.html")]
    assert first == [path.read_bytes() for path in write_report(finished.path, out=tmp_path / "one.html")]


def test_whatever_a_model_wrote_is_text(finished):
    page, markdown = read(write_report(finished.path))
    assert "<img" not in page and "onerror=" not in page
    assert "<script>document" not in page and "<script>document" not in markdown
    assert all(re.fullmatch("[A-Za-z0-9+/=]+", line) for lines in packs(page).values() for line in lines)


def test_a_steps_completions_are_packed_with_grades_and_advantages(finished):
    page, _ = read(write_report(finished.path))
    assert sorted(packs(page)) == [f"stage-{stage}/{step}" for stage in (1, 2) for step in (1, 2, 3)]
    index, *texts = packs(page)["stage-1/2"]
    groups = unpack(index)
    assert [sum(one["reward"] for one in group["completions"]) for group in groups] == [0, 1, 2, 3]
    assert [one["advantage"] for one in groups[0]["completions"]] == [0, 0, 0, 0]
    assert [one["advantage"] for one in groups[1]["completions"]] == [1.5, -0.5, -0.5, -0.5]
    assert [one["cut"] for one in groups[1]["completions"]] == [False, False, False, True]
    assert unpack(texts[1])[0] == f"{HOSTILE} step 2, problem 1, sample 0"
    assert groups[0]["question"] == synthetic_problems(1, seed=0, split="train")[0].question


def test_packs_that_do_not_fit_lie_beside_the_page(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(completions, "INLINE_BYTES", 0)
    page, _ = read(write_report(finished.path, out=tmp_path / "r.html"))
    files = sorted((tmp_path / "r-steps").iterdir())
    assert len(files) == 6 and not packs(page) and "6 in r-steps/ beside it" in page
    written = files[0].stat().st_mtime_ns
    again, _ = read(write_report(finished.path, out=tmp_path / "r.html"))
    assert again == page and files[0].stat().st_mtime_ns == written
    key, lines = re.fullmatch(
        r'/\* [0-9a-f]{64} \*/\npolarisStep\("([^"]+)", `([^`]+)`\);\n', files[0].read_text()
    ).groups()
    assert key == "stage-1/1" and len(unpack(lines.split("\n")[0])) == 4


def test_steps_without_room_are_left_out_unless_they_are_asked_for(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(completions, "INLINE_BYTES", 0)
    page, _ = read(write_report(finished.path, out=tmp_path / "r.html", beside_mib=0, wanted=["stage-2:2"]))
    assert [path.name for path in (tmp_path / "r-steps").iterdir()] == ["stage-2-step-000002.js"]
    assert "5 are left out for their size" in page
    with pytest.raises(RunFolderError, match=r"--step 'stage-2:9': no completions.*such as stage-1:1 or stage-2:3"):
        write_report(finished.path, out=tmp_path / "r.html", wanted=["stage-2:9"])


def test_a_running_run_shows_what_there_is_and_names_what_is_not(tmp_path):
    run = make_run(tmp_path / "running", num_stages=1)
    run.scores("final").unlink()
    (run.path / "steps" / "evaluate.final.json").unlink()
    run.stage("stage-1").outcome.unlink()
    write(run.events, json.dumps({"time": "2026-11-27T11:00:00Z", "event": "started", "step": "stage-2.drop"}) + "\n")
    page, markdown = read(write_report(run.path))
    assert "The evaluation of the last model is not there yet." in page
    assert "No selection before stage-2 is there yet." in page
    assert "**stage-2: drop mastered** (running): is running" in markdown
    assert "**stage-2: train** (open): not there yet" in markdown
    assert "no outcome.json says which checkpoint was chosen" in page


def test_what_was_set_aside_before_training_is_said_with_its_reasons(tmp_path):
    folder = make_run(tmp_path / "run", num_stages=1, steps=1)
    aside = folder.imported.with_name("imported.jsonl.set-aside.jsonl")
    aside.write_text("".join(json.dumps({"reason": reason}) + "\n" for reason in ("a proof", "a proof", "an image")))
    folder.check_findings.write_text(json.dumps({"problem_id": "p", "finding": "prompt too long"}) + "\n")
    for text in read(write_report(folder.path)):
        assert "set aside: a proof (2), an image (1)" in text and "found: prompt too long (1)" in text


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    run = make_run(tmp_path / "whole", num_stages=0)
    begun = RunFolder(tmp_path / "begun")
    write(begun.recipe, run.recipe.read_text())
    page, markdown = read(write_report(begun.path))
    assert "No training step is finished yet." in page and "No completions are on disk yet" in page
    assert "not finished: 15 of 15 steps left, next: import" in markdown


def test_a_stage_that_was_typed_without_a_recipe_has_a_page(tmp_path):
    run = make_run(tmp_path / "typed", num_stages=1)
    run.recipe.unlink()
    assert "starting from tiny" in read(write_report(run.path))[1]


def test_damaged_lines_are_counted_named_and_set_aside(tmp_path):
    run = make_run(tmp_path / "damaged", num_stages=1)
    metrics = run.stage("stage-1").metrics
    whole = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join([whole[0], "{broken\n", '{"step": "x"}\n', *whole[1:], '{"step": 4, "rew']))
    run.stage("stage-1").outcome.write_text("{}")
    run.decisions.write_text("[]")
    page, _ = read(write_report(run.path))
    assert "stage-1/metrics.jsonl: 2 damaged lines are set aside: line 2 (Invalid JSON" in page
    assert "stage-1/outcome.json is left out: stopped: Field required" in page
    assert "data/selection/decisions.json is left out:" in page
    assert '<td>stage-1</td><td class="number">3/3</td>' in page


def test_a_damaged_file_of_completions_is_named(tmp_path):
    run = make_run(tmp_path / "torn", num_stages=1)
    run.stage("stage-1").rollout(2).write_bytes(b"PAR1 no")
    page, _ = read(write_report(run.path))
    assert "step-000002.parquet cannot be read" in page and sorted(packs(page)) == ["stage-1/1", "stage-1/3"]


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("nowhere", "no folder '.*nowhere'"),
        ("", "is no run: it has neither recipe.json"),
        ("run/stage-1", "is a stage; give"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, inside, message):
    make_run(tmp_path / "run", num_stages=1)
    with pytest.raises(RunFolderError, match=message):
        write_report(tmp_path / inside)


def test_two_runs_are_compared_pair_by_pair(finished, tmp_path):
    other = make_run(tmp_path / "other", steps=2, gain=2)
    page, markdown = read(write_comparison(finished.path, other.path, tmp_path / "both.html"))
    assert "| stages.0.steps | 3 | 2 |" in markdown
    assert "last model, B − A, paired by problem" in page and "| bench | 4 | 43.8 | 68.8 | +25.0" in markdown
    assert page.count("<figure>") >= 8
    again = read(write_comparison(finished.path, other.path, tmp_path / "both.html"))
    assert again == (page, markdown)


def test_evaluations_of_other_problems_are_not_compared(finished, tmp_path):
    other = make_run(tmp_path / "other", num_stages=1)
    evaluate(other, "final", 1, seed=4)
    with pytest.raises(MixedProblemsError, match=r"bench: .* problems are in one evaluation only"):
        write_comparison(finished.path, other.path, tmp_path / "both.html")


def test_runs_without_an_evaluation_in_common_are_compared_in_the_rest(finished, tmp_path):
    other = make_run(tmp_path / "other", num_stages=1)
    for name in ("start", "final"):
        other.scores(name).unlink()
    page, markdown = read(write_comparison(finished.path, other.path, tmp_path / "both.html"))
    assert "last model: A has an evaluation, B not yet." in page and "no evaluation that both have" in markdown


def test_the_commands_of_the_readme_write_their_pages(finished, tmp_path, monkeypatch):
    for name in ("4b", "plain"):
        shutil.copytree(finished.path, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    commands = re.findall(r"^polaris ((?:report|compare) [^#\n]+)", readme, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        done = CliRunner().invoke(app, command.replace("stage-1:120", "stage-1:2").split())
        assert done.exit_code == 0, done.output
        page = Path(re.search("page: (.+)", done.output)[1])
        assert page.read_text().startswith("<!doctype html>") and page.with_suffix(".md").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.html", "both.md", "runs"]


@pytest.fixture
def released(finished, tmp_path):
    """The card of a run's model, as its user wrote it: from a base model in a folder that has a card of its own."""
    run, base = tmp_path / "run", tmp_path / "secret" / "Base-1M"
    shutil.copytree(finished.path, run)
    shutil.copytree(tiny_model(), base)
    (base / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Base\n")
    (base / "LICENSE").write_text("Apache")
    recipe = json.loads(RunFolder(run).recipe.read_text()) | {"model": str(base), "problems": str(base / "own.jsonl")}
    recipe["evaluation"]["yarn_context"] = 3072
    RunFolder(run).recipe.write_text(json.dumps(recipe))
    shutil.copytree(tiny_model(), RunFolder(run).stage("stage-2").model)
    write(RunFolder(run).stage("stage-2").model / "trained.json", json.dumps({"run": str(run)}) + "\n")
    return write_release(run, tmp_path / "Made-1M")


def test_a_card_says_recipe_data_decisions_scores_and_licence(released, finished):
    card = (released / "README.md").read_text()
    _, metadata, text = card.split("---\n", 2)
    said = yaml.safe_load(metadata)
    assert said["license"] == "apache-2.0" and (released / "LICENSE").read_text() == "Apache"
    assert (
        said["library_name"] == "transformers" and "base_model" not in said
    )  # A folder is nothing that the Hub knows.
    (result,) = said["model-index"][0]["results"]
    score = read_scores(finished.evaluation("final")).evaluations[0].score("mean@k")
    low, high = (100 * end for end in score.interval)
    name = f"mean@{score.k}, 95% interval {low:.1f} to {high:.1f}"
    assert result["metrics"] == [{"type": f"mean@{score.k}", "value": round(100 * score.value, 1), "name": name}]
    assert f"| bench | last model | 4 | 4 | {100 * score.value:.1f} \\[{low:.1f}, {high:.1f}] |" in text
    assert "metadata are the mean@k of the last model" in text and said["tags"][3:] == ["grpo"]
    hashes = {name: protocol_hash({"temperature": 1.0, "model": name}) for name in ("start", "final")}
    assert f"as a hash: first model {hashes['start']}, last model {hashes['final']}." in text
    assert "from Base-1M with reinforcement learning" in text and "recipe made" in text
    assert "temperature 1.4, top-k 20, top-p 1" in text
    assert "11 of 12 stay; dropped: always solved (1)" in text
    assert "Training problems come from own.jsonl." in text
    assert "YaRN with factor 1.5 over 2,048 positions reads up to 3,072 tokens" in text
    assert "paired by problem" in text


def test_a_card_names_no_folder_of_this_machine(released, tmp_path):
    for path in released.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    assert not (released / "trained.json").exists()


def test_a_teacher_is_named_with_what_it_was_learned_from_it(finished, released, tmp_path):
    """Both stages are taught, and the second, in adapters, beside the rewards."""
    run, base = RunFolder(tmp_path / "run"), tmp_path / "secret" / "Base-1M"
    for name, more in (("stage-1", {}), ("stage-2", {"lora": {"rank": 8, "alpha": None}})):
        stage, weight = run.stage(name), float(bool(more))
        told = {"distillation": {"teacher": str(base), "reward": weight}, "normalize_std": False}
        write(stage.resolved, json.dumps(json.loads(stage.resolved.read_text()) | told | more))
        groups = [graded(f"{number}", 1, number, 5) for number in range(4)]
        lines = [step_metrics(step, groups, replace(stats(step), reverse_kl=0.6 / step)) for step in (1, 2, 3)]
        write(stage.metrics, "".join(json.dumps(line) + "\n" for line in lines))
    page, markdown = read(write_report(run.path))
    assert "Divergence from the teacher, nats a token" in page
    assert "context 80, taught by Base-1M without the rewards, divergence from it 0.600 to 0.200 nats a token" in page
    assert "context 160, adapters of rank 8, taught by Base-1M beside the rewards, divergence from it 0.600" in page
    assert "| stage-1 | 48 | all, by a teacher | 3 | 0 |" in markdown
    (reasons,) = [each for each in explain_run(run, "stage-2") if each.title == "stage-2: teacher"]
    assert reasons.lines == ("taught by Base-1M beside the rewards",)
    card = (write_release(run.path, tmp_path / "Taught-1M") / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n", 2)[1])["tags"][3:] == ["distillation", "grpo"]
    assert (
        "with on-policy distillation from Base-1M, then reinforcement learning on verifiable problems and on-policy "
        "distillation from Base-1M (polaris, recipe made)." in card
    )
    assert "Stage stage-1 was taught by Base-1M (licence: apache-2.0), token by token." in card
    assert str(tmp_path) not in card


def test_a_run_of_which_no_stage_has_ended_is_not_released(finished, tmp_path):
    with pytest.raises(RunFolderError, match=r"no stage of .* has ended; write a stage's newest checkpoint"):
        write_release(finished.path, tmp_path / "out")
