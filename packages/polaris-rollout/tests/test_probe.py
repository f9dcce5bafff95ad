"""Probing: what is drawn is kept, measured once, and reported whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
from polaris_rollout import Completion, EngineSpec, Group, SamplingParams, StoreError, completion_seed
from polaris_rollout.errors import SettingError
from polaris_rollout.temperature.budget import ProbeRun
from polaris_rollout.temperature.calibration import Calibration, calibrate
from polaris_rollout.temperature.diversity import distinct_n, expected_distinct_n
from polaris_rollout.temperature.drawing import draw_report
from polaris_rollout.temperature.graders import open_grader
from polaris_rollout.temperature.measure import DiversityMeasure, ModelProbe, read_probe_problems
from polaris_rollout.temperature.report import (
    describe_columns,
    describe_decision,
    read_earlier,
    report_table,
    to_report,
    write_report,
)
from polaris_rollout.temperature.search import find_diversity
from rich.console import Console

NUM_PROBLEMS = 12
EVERY = range(NUM_PROBLEMS)


def write_problems(path, num=NUM_PROBLEMS):
    rows = [{"problem_id": f"p{i}", "question": f"{i}+{i}?", "references": [str(2 * i)]} for i in range(num)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Parrot:
    """A sampler whose vocabulary grows with the temperature, and which is right as often as it falls."""

    def __init__(self):
        self.num_drawn = 0

    def sample(self, prompts, params, *, n):
        for prompt in prompts:
            self.num_drawn += 1
            yield Group(
                problem_id=prompt.problem_id,
                prompt_token_ids=(1,),
                completions=tuple(self._answer(prompt, params, index) for index in range(n)),
            )

    def _answer(self, prompt, params, index):
        generator = np.random.default_rng(completion_seed(params.seed, prompt.problem_id, index))
        vocabulary = 2 + int(4 * params.temperature**2)
        token_ids = tuple(generator.integers(vocabulary, size=40).tolist())
        right = generator.random() < 0.9 - 0.3 * params.temperature
        value = 2 * int(prompt.problem_id[1:]) if right else -1
        return Completion(
            token_ids=token_ids,
            logprobs=tuple(-np.log(vocabulary) * np.ones(40)),
            text=f"{' '.join(map(str, token_ids))} = {value}",
            finish_reason="stop",
        )


def grade_many(items):
    answers = [text.rsplit(" ", 1)[-1] for text, _ in items]
    return [(answer in references, answer) for answer, (_, references) in zip(answers, items, strict=True)]


def make_probe(folder, sampler, problems, *, grade=grade_many, name="expected", num_tokens=None):
    return ModelProbe(
        problems,
        sampler,
        grade,
        folder=folder,
        params=SamplingParams(max_tokens=40, seed=1),
        measure=DiversityMeasure(name=name, num_samples=4, num_tokens=num_tokens),
        settings={"model": "parrot"},
    )


@pytest.fixture
def problems(tmp_path):
    return read_probe_problems(write_problems(tmp_path / "p.jsonl"), suffix="", num_problems=99, seed=0)


def test_a_probe_measures_what_was_drawn(tmp_path, problems):
    probe = make_probe(tmp_path / "probes", Parrot(), problems)
    measured = probe.measure(1.0, 8, EVERY)
    assert measured.accuracy.shape == (NUM_PROBLEMS,)
    assert measured.accuracy.mean() == pytest.approx(0.6, abs=0.15)
    assert probe.num_tokens == 40
    assert measured.tokens.tolist() == [40.0] * NUM_PROBLEMS
    assert probe.texture(1.0).token_entropy == pytest.approx(np.log(6), abs=1e-6)


def test_answers_are_graded_after_the_thought_that_the_prompt_opened(tmp_path, problems):
    class Thinker(Parrot):
        def sample(self, prompts, params, *, n):
            for group in super().sample(prompts, params, n=n):
                yield replace(group, prefilled="<think>")

    seen = []

    def remember(items):
        seen.extend(text for text, _ in items)
        return grade_many(items)

    make_probe(tmp_path / "probes", Thinker(), problems, grade=remember).measure(1.0, 4, EVERY)
    assert len(seen) == 4 * NUM_PROBLEMS
    assert all(text.startswith("<think>") for text in seen)


def test_diversity_is_that_of_the_tokens_of_all_answers(tmp_path, problems):
    sampler = Parrot()
    measured = make_probe(tmp_path / "probes", sampler, problems, num_tokens=20).measure(1.0, 4, EVERY)
    from polaris_rollout.store.folder import read_store

    groups = {group.problem_id: group for group in read_store(next((tmp_path / "probes").iterdir()))}
    samples = [
        [np.array(completion.token_ids) for completion in groups[each.prompt.problem_id].completions]
        for each in problems
    ]
    assert measured.diversity.tolist() == expected_distinct_n(samples, num_samples=4, num_tokens=20).tolist()


def test_nothing_is_drawn_twice(tmp_path, problems):
    first, second = Parrot(), Parrot()
    once = make_probe(tmp_path / "probes", first, problems).measure(1.0, 8, EVERY)
    again = make_probe(tmp_path / "probes", second, problems).measure(1.0, 8, EVERY)
    assert (first.num_drawn, second.num_drawn) == (2 * NUM_PROBLEMS, 0)
    assert again.diversity.tolist() == once.diversity.tolist()
    make_probe(tmp_path / "probes", second, problems).measure(1.0, 12, EVERY)
    assert second.num_drawn == NUM_PROBLEMS


def test_batches_and_temperatures_have_answers_of_their_own(tmp_path, problems):
    probe = make_probe(tmp_path / "probes", Parrot(), problems)
    probe.measure(1.0, 8, EVERY), probe.measure(1.05, 4, EVERY)
    from polaris_rollout.store.folder import read_store

    drawn = [
        tuple(each.token_ids for each in group.completions)
        for folder in (tmp_path / "probes").iterdir()
        for group in read_store(folder)
    ]
    assert len(set(drawn)) == len(drawn) == 3 * NUM_PROBLEMS


def test_answers_of_another_model_are_refused(tmp_path, problems):
    make_probe(tmp_path / "probes", Parrot(), problems).measure(1.0, 4, EVERY)
    other = ModelProbe(
        problems,
        Parrot(),
        grade_many,
        folder=tmp_path / "probes",
        params=SamplingParams(max_tokens=40, seed=1),
        measure=DiversityMeasure(name="expected", num_samples=4),
        settings={"model": "another"},
    )
    with pytest.raises(StoreError, match="another job"):
        other.measure(1.0, 4, EVERY)


def search(folder, problems, target):
    probe = make_probe(folder / "probes", Parrot(), problems)
    run = ProbeRun(probe.measure, num_problems=NUM_PROBLEMS, batch=4, max_answers=40)
    choice = find_diversity(run, target)
    return to_report(
        run,
        choice,
        probe,
        target=target,
        max_loss=0.02,
        warnings=["the parrot repeats itself"],
        settings={"model": "parrot"},
    )


def test_the_report_carries_the_decision_to_the_next_stage(tmp_path, problems):
    report = search(tmp_path, problems, 0.7)
    path = write_report(tmp_path, report)
    assert json.loads(path.read_text()) == report
    assert report["diversity"]["value"] == pytest.approx(0.7, abs=0.01)
    assert [point["temperature"] for point in report["curve"]] == sorted(p["temperature"] for p in report["curve"])
    earlier = read_earlier(tmp_path)
    assert earlier.temperature == report["temperature"]
    assert np.mean(list(earlier.diversity_by_problem.values())) == pytest.approx(0.7, abs=0.05)
    assert earlier.measure == DiversityMeasure(name="expected", num_samples=4, num_tokens=40)
    assert earlier.left_out == 0


def test_a_repeated_search_writes_the_same_report(tmp_path, problems):
    assert search(tmp_path, problems, 0.7) == search(tmp_path, problems, 0.7)


def test_the_report_is_drawn_and_printed(tmp_path, problems):
    report = search(tmp_path, problems, 0.7)
    for path in draw_report(report, tmp_path):
        assert path.stat().st_size > 5_000
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    report["curve"][0] |= {"num_samples": 128, "mean_tokens": 51_200.0, "truncated": 1.0}
    console.print(report_table(report))
    text = console.export_text()
    assert all(f"{point['temperature']:.2f}" in text for point in report["curve"])
    assert "51,200" in text and "…" not in text and max(map(len, text.splitlines())) <= 80
    assert "distinct 4-grams of tokens expected in 4 answers of 40 tokens" in describe_columns(report)
    decision = describe_decision(report)
    assert f"temperature {report['temperature']:.2f} [" in decision
    assert "warning: the parrot repeats itself" in decision


def test_a_report_of_an_older_version_is_read_and_drawn(tmp_path, problems):
    report = search(tmp_path, problems, 0.7)
    for name in ("warnings", "interval", "fresh"):
        del report[name]
    for name in ("diversity_temperatures", "diversity", "diversity_low", "diversity_high"):
        del report["fit"][name]
    report["measure"] = {"unit": "token", "n": 4, "num_samples": 4, "num_tokens": 40}
    for point in report["curve"]:
        point["truncated"] = 0.25
        del point["num_problems"]
    write_report(tmp_path, report)
    earlier = read_earlier(tmp_path)
    assert earlier.measure == DiversityMeasure(name="expected", num_samples=4, num_tokens=40)
    assert earlier.left_out == 0.25
    draw_report(report, tmp_path)
    assert describe_decision(report)


def test_the_published_measure_is_that_of_whole_answers_and_named(tmp_path, problems):
    probe = make_probe(tmp_path / "probes", Parrot(), problems, name="published")
    measured = probe.measure(1.0, 8, EVERY)
    from polaris_rollout.store.folder import read_store

    by_batch = []
    for folder in (tmp_path / "probes").iterdir():
        texts = {group.problem_id: [each.text for each in group.completions] for group in read_store(folder)}
        by_batch.append(distinct_n([texts[each.prompt.problem_id] for each in problems]))
    assert measured.diversity.tolist() == pytest.approx(np.mean(by_batch, axis=0).tolist())
    run = ProbeRun(probe.measure, num_problems=NUM_PROBLEMS, batch=4, max_answers=40)
    choice = find_diversity(run, float(measured.diversity.mean()))
    report = to_report(run, choice, probe, target=0.5, max_loss=0.02, warnings=[], settings={})
    assert report["measure"] == {"name": "published", "unit": "word", "n": 4, "num_samples": 4, "num_tokens": None}
    assert "published score" in describe_columns(report)
    write_report(tmp_path, report)
    assert read_earlier(tmp_path).measure == DiversityMeasure(name="published", num_samples=4)


def test_a_temperature_is_found_by_the_entropy_of_its_tokens(tmp_path, problems):
    """The parrot's is the logarithm of its vocabulary: 8 words from 1.22 to 1.32."""
    probe = make_probe(tmp_path / "probes", Parrot(), problems, name="entropy")
    assert probe.measure(1.0, 8, EVERY).diversity.tolist() == pytest.approx([np.log(6)] * NUM_PROBLEMS)
    run = ProbeRun(probe.measure, num_problems=NUM_PROBLEMS, batch=4, max_answers=40, quantity="entropy")
    choice = find_diversity(run, float(np.log(8)))
    assert 1.15 < choice.temperature < 1.35
    assert "the temperature at which entropy is 2.079" in choice.reason
    report = to_report(run, choice, probe, target=2.079, max_loss=0.02, warnings=[], settings={})
    assert "entropy: of a token at the temperature that drew it, in nats" in describe_columns(report)
    assert "entropy there 2." in describe_decision(report)
    draw_report(report, tmp_path)
    write_report(tmp_path, report)
    assert read_earlier(tmp_path).measure == DiversityMeasure(name="entropy", num_samples=4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_entropy": 0.3, "target_diversity": 0.5}, "one of --target-diversity, --target-entropy and --like"),
        ({"target_entropy": 0.3, "at": 1.0}, "--at searches for nothing"),
        ({"target_entropy": -0.3}, "--target-entropy is -0.3; give nats above 0"),
        ({"target_entropy": 0.3, "measure": "published"}, "leave --measure out"),
    ],
)
def test_targets_that_contradict_each_other_are_refused(tmp_path, problems, given, message):
    with pytest.raises(SettingError, match=message):
        calibrate(problems, tmp_path / "out", EngineSpec("tiny"), Calibration(**given))


def test_fresh_problems_are_reported_and_the_others_carried_to_the_next_stage(tmp_path, problems):
    probe = make_probe(tmp_path / "probes", Parrot(), problems)
    run = ProbeRun(probe.measure, num_problems=8, num_fresh=4, batch=4, max_answers=60)
    choice = find_diversity(run, 0.7, precision=1e-9)
    report = to_report(run, choice, probe, target=0.7, max_loss=0.02, warnings=[], settings={})
    assert sum(each["num_problems"] for each in report["fresh"]) == 4
    assert sorted(report["diversity_by_problem"]) == sorted(probe.problem_ids[:8])
    assert report["diversity"]["value"] == pytest.approx(0.7, abs=0.05)


class Rambler(Parrot):
    """Never comes to an end when it is hot."""

    def _answer(self, prompt, params, index):
        answer = super()._answer(prompt, params, index)
        if params.temperature < 1.5:
            return answer
        return replace(answer, text=answer.text.rpartition("=")[0], finish_reason="length")


def test_a_temperature_whose_first_answers_are_all_wrong_is_left_at_that(tmp_path, problems):
    sampler = Rambler()
    probe = make_probe(tmp_path / "probes", sampler, problems, grade=lambda items: [(" = " in t, "") for t, _ in items])
    run = ProbeRun(probe.measure, num_problems=NUM_PROBLEMS, batch=4, max_answers=40)
    run.add(1.0)
    run.add(2.0)
    assert sampler.num_drawn == NUM_PROBLEMS + NUM_PROBLEMS // 4
    assert (run.probes[2.0].num_asked, run.ceiling, run.num_answers) == (3, 2.0, 5)
    assert np.nansum(run.probes[2.0].accuracy) == 0


def test_answers_that_are_all_cut_short_have_a_diversity(tmp_path, problems):
    probe = make_probe(tmp_path / "probes", Rambler(), problems)
    assert not np.isnan(probe.measure(2.0, 4, EVERY).diversity).any()


@pytest.mark.parametrize("content", ["not json", "{}", '{"temperature": "warm"}'])
def test_a_file_that_is_no_report_is_refused(tmp_path, content):
    (tmp_path / "temperature.json").write_text(content)
    with pytest.raises(StoreError, match=r"temperature\.json"):
        read_earlier(tmp_path)


def test_a_stage_without_a_report_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"temperature\.json"):
        read_earlier(tmp_path)


def test_some_problems_are_drawn_from_a_longer_file(tmp_path):
    path = write_problems(tmp_path / "many.jsonl", 200)
    drawn = [read_probe_problems(path, suffix="!", num_problems=20, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({each.prompt.problem_id for each in drawn[0]}) == 20
    assert all(each.prompt.text.endswith("?!") for each in drawn[0])


@pytest.mark.parametrize("answer", ['""', "7", "[]", "null", '["7", 8]'])
def test_a_problem_without_a_reference_is_refused(tmp_path, answer):
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"id": "a", "question": "3+4?", "answer": {answer}}}\n')
    with pytest.raises(StoreError, match=r"'a' has no 'references' or 'answer'"):
        read_probe_problems(path, suffix="", num_problems=9, seed=0)


@pytest.mark.parametrize("name", ["nobody", "no_module:function", "json:no_function"])
def test_a_grader_that_is_not_there_is_refused(name):
    with pytest.raises(SettingError, match=name):
        open_grader(name)
