import json
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data import (
    Accuracy,
    Attempt,
    Cap,
    Difficulty,
    Extreme,
    Problem,
    ProblemFileError,
    Reshape,
    SettingError,
    Visit,
    count_reasons,
    parse_rule,
    read_problems,
    select,
    select_by_visits,
    write_problems,
    write_selection,
)
from polaris_data.profile.attempts import bin_of, pool
from polaris_data.profile.files import write_profile
from polaris_data.profile.shape import name_shape
from polaris_data.selection.decisions import attempts_of, decide, histograms, selection_settings
from polaris_data.selection.reach import needed_samples, rules_out_of_reach
from polaris_data.selection.reading import read_rules, to_data
from polaris_data.selection.rules import (
    mirrored_j,
    probability_above,
    shuffled,
)

PUBLISHED_7B = (8877, 2583, 2070, 1839, 1852, 1900, 2530, 4513, 14183)


def problem(name):
    return Problem(problem_id=name, question=f"What is {name}?", references=("1",), extra={"level": 2})


def difficulty(name, num_correct, num_samples=8):
    return Difficulty(
        problem_id=name, num_samples=num_samples, num_correct=num_correct, num_truncated=0, mean_tokens=10.0
    )


def visit(name, step, num_correct, num_samples=8):
    return Visit(
        run="r",
        stage="s",
        step=step,
        problem_id=name,
        num_samples=num_samples,
        num_correct=num_correct,
        num_truncated=0,
    )


def published_evidence():
    return {f"{k}-{i}": (Attempt(8, k),) for k, count in enumerate(PUBLISHED_7B) for i in range(count)}


def kept(decisions):
    return [decision.problem_id for decision in decisions if decision.kept]


RULES = st.one_of(
    st.builds(Extreme, solved=st.sampled_from(["always", "never"])),
    st.builds(
        Accuracy,
        above=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
        by=st.sampled_from(["mean", "certainty"]),
        window=st.none() | st.integers(1, 3),
        min_visits=st.integers(1, 3),
        certainty=st.sampled_from([0.5, 0.95]),
    ),
    st.builds(Accuracy, above=st.floats(0, 1), by=st.just("latest")),
    st.builds(Cap, bin=st.sampled_from(["0/8", "3/8", "8/8", "1/2"]), share=st.sampled_from([0.0, 0.1, 0.5, 0.9])),
)
ATTEMPTS = st.integers(1, 8).flatmap(lambda n: st.builds(Attempt, st.just(n), st.integers(0, n)))


def test_only_what_was_always_solved_is_dropped():
    problems = [problem(str(k)) for k in range(9)]
    decisions = select(problems, [difficulty(str(k), k) for k in range(9)])
    assert [decision.kept for decision in decisions] == [True] * 8 + [False]
    assert count_reasons(decisions) == {"no rule drops it": 8, "always solved": 1}


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        (["accuracy above=0.5"], "01234"),
        (["accuracy above=0.875"], "01234567"),
        (["accuracy above=0"], "0"),
        (["accuracy above=1"], "012345678"),
        (["drop solved=never", "drop"], "1234567"),
        # P(rate > 0.5) is 0.98 after 8 of 8 under a uniform prior, (1 - 0.5**9); 0.91 after 6, 0.96 after 7
        (["accuracy above=0.5 by=certainty certainty=0.97"], "0123456"),
        (["accuracy above=0.9", "accuracy above=0.1"], "0"),
    ],
)
def test_rules_drop_by_accuracy(rules, names):
    problems = [problem(str(k)) for k in range(9)]
    decisions = select(problems, [difficulty(str(k), k) for k in range(9)], rules=tuple(map(parse_rule, rules)))
    assert "".join(kept(decisions)) == names


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.lists(ATTEMPTS, max_size=4), max_size=40),
    st.lists(RULES, max_size=4),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_no_problem_is_both_kept_and_dropped_and_the_counts_add_up(attempts, rules, seed, rng):
    evidence = {name: each for name, each in attempts.items() if each}
    decisions = decide(attempts, evidence, rules, seed=seed)
    assert [decision.problem_id for decision in decisions] == list(attempts)
    reasons = count_reasons(decisions)
    assert len(attempts) == sum(reasons.values())
    dropped = Counter(decision.reason for decision in decisions if not decision.kept)
    assert len(attempts) == len(kept(decisions)) + sum(dropped.values())
    assert not dropped.keys() & {decision.reason for decision in decisions if decision.kept}
    assert {decision.problem_id for decision in decisions if decision.reason == "never visited"} == {
        name for name in attempts if name not in evidence
    }
    shuffled_names = rng.sample(list(evidence), len(evidence))
    again = decide(attempts, {name: evidence[name] for name in shuffled_names}, rules, seed=seed)
    assert again == decisions
    reordered = rng.sample(list(attempts), len(attempts))
    assert {d.problem_id: d for d in decide(reordered, evidence, rules, seed=seed)} == {
        d.problem_id: d for d in decisions
    }


@given(st.lists(RULES, min_size=1, max_size=5))
def test_rules_survive_being_written_as_data(rules):
    def plain(rule):
        return rule if getattr(rule, "by", "") == "certainty" else to_data(rule)

    again = [parse_rule(json.loads(json.dumps(to_data(rule)))) for rule in rules]
    assert [plain(rule) for rule in again] == [plain(rule) for rule in rules]


@given(ATTEMPTS, st.sampled_from([0.1, 0.5, 0.9]))
def test_the_posterior_agrees_with_a_sum_over_a_fine_grid(attempt, rate):
    n, k = attempt[:2]
    grid = [(i + 0.5) / 4000 for i in range(4000)]
    density = [p**k * (1 - p) ** (n - k) for p in grid]
    above = sum(value for p, value in zip(grid, density, strict=True) if p > rate) / sum(density)
    assert probability_above(rate, attempt) == pytest.approx(above, abs=1e-3)


@pytest.mark.parametrize(("rate", "chance"), [(0.0, 1.0), (1.0, 0.0)])
def test_every_rate_is_above_0_and_none_above_1(rate, chance):
    assert probability_above(rate, Attempt(8, 8)) == chance


def test_many_samples_do_not_overflow_the_posterior():
    assert probability_above(0.9, Attempt(100_000, 95_000)) == pytest.approx(1.0)
    assert probability_above(0.9, Attempt(100_000, 85_000)) == pytest.approx(0.0)


def test_dropping_8_of_8_from_the_published_7b_histogram_leaves_a_mirrored_j_of_26_thousand():
    evidence = published_evidence()
    decisions = decide(evidence, evidence, (Extreme(),), seed=0)
    shapes = histograms(evidence, set(kept(decisions)))
    assert shapes["before"].counts == PUBLISHED_7B and shapes["before"].shape == "J"
    assert shapes["after"].num_problems == 26164 and shapes["after"].shape == "mirrored-J"


def test_a_shape_is_reached_by_dropping_as_little_as_possible():
    evidence = published_evidence()
    shapes = histograms(evidence, set(kept(decide(evidence, evidence, (Reshape(),), seed=0))))
    assert shapes["after"].counts == (*PUBLISHED_7B[:-1], 7101) and shapes["after"].shape == "mirrored-J"
    one_more = {**evidence} | {"8-14182": (Attempt(8, 8),)}
    left = set(kept(decide(evidence, evidence, (Reshape(),), seed=0)))
    dropped_easy = next(name for name in one_more if name not in left)
    assert histograms(evidence, left | {dropped_easy})["after"].shape != "mirrored-J"


@given(st.lists(st.integers(0, 4), min_size=3, max_size=5).filter(lambda counts: counts[0] > 0))
def test_no_larger_part_has_the_shape(counts):
    left = mirrored_j(counts)
    assert name_shape(tuple(left)) == "mirrored-J" and all(a <= b for a, b in zip(left, counts, strict=True))
    parts = product(*(range(count + 1) for count in counts))
    assert sum(left) == max(sum(part) for part in parts if name_shape(part) == "mirrored-J")


def test_a_rule_by_certainty_says_how_many_visits_it_needs(tmp_path):
    rule = Accuracy(above=0.9, by="certainty", certainty=0.95)
    assert needed_samples(rule) == 28  # 1 - 0.9 ** 29 is 95.3%, 1 - 0.9 ** 28 is 94.8%
    evidence = {"few": (Attempt(8, 8),) * 3, "many": (Attempt(8, 8),) * 4}
    (note,) = rules_out_of_reach(evidence, [rule, Accuracy(above=0.9)])
    assert "at least 28 answers, all correct, which are 4 visits of 8: 1 of 2 problems have fewer" in note
    assert rules_out_of_reach({"many": evidence["many"]}, [rule]) == []
    assert kept(decide(evidence, evidence, [rule], seed=0)) == ["few"]


def test_what_the_budget_cut_short_can_be_dropped():
    evidence = {str(cut): (Attempt(8, 0, cut), Attempt(8, 0, 0)) for cut in (0, 4, 8)}
    rule = parse_rule("truncation above=0.25")
    assert kept(decide(evidence, evidence, [rule], seed=0)) == ["0", "4"] and parse_rule(to_data(rule)) == rule
    with pytest.raises(SettingError, match=r"above is 1\.5"):
        parse_rule("truncation above=1.5")


def test_problems_whose_wrong_answers_share_little_with_right_ones_can_be_dropped():
    evidence = {
        "near": (Attempt(8, 2, 0, 0.5), Attempt(8, 4, 0, 0.9)),
        "at the limit": (Attempt(8, 2, 0, 0.4),),
        "far": (Attempt(8, 2, 0, 0.6), Attempt(8, 3, 0, 0.1), Attempt(8, 8)),
        "never solved": (Attempt(8, 0),),
    }
    rule = parse_rule("difference above=0.6")
    assert kept(decide([*evidence, "not visited"], evidence, [rule], seed=0)) == ["near", "at the limit", "not visited"]
    assert parse_rule(to_data(rule)) == rule
    settings = [
        selection_settings("", each, rules=[rule], seed=0) for each in (evidence, evidence | {"far": (Attempt(8, 2),)})
    ]
    assert settings[0] != settings[1]
    with pytest.raises(SettingError, match=r"none of 1 problems says .* trained with \[core\]"):
        decide(["a"], {"a": (Attempt(8, 3),)}, [rule], seed=0)


def test_a_shape_that_no_part_has_is_refused():
    with pytest.raises(SettingError, match="no problem was never solved"):
        decide("a", {"a": (Attempt(8, 8),)}, (Reshape(),), seed=0)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 0.9]))
def test_a_cap_holds_and_is_not_stricter_than_it_must_be(corrects, share):
    evidence = {str(number): (Attempt(8, k),) for number, k in enumerate(corrects)}
    left = kept(decide(evidence, evidence, (Cap(bin="0/8", share=share),), seed=0))
    others = sum(k > 0 for k in corrects)
    zeros = len(left) - others
    assert zeros <= share * len(left) + 1e-9
    if zeros < corrects.count(0):
        assert zeros + 1 > share * (len(left) + 1) - 1e-9


def test_what_a_cap_keeps_depends_on_the_seed_and_a_smaller_cap_keeps_part_of_it():
    evidence = {str(number): (Attempt(8, 0 if number < 90 else 4),) for number in range(100)}

    def zeros(share, seed):
        left = kept(decide(evidence, evidence, (Cap(bin="0/8", share=share),), seed=seed))
        return {name for name in left if int(name) < 90}

    assert len(zeros(0.5, 0)) == len(zeros(0.5, 1)) == 10 and zeros(0.5, 0) != zeros(0.5, 1)
    assert zeros(0.1, 0) < zeros(0.5, 0)
    assert shuffled("abc", seed=1) == shuffled("cba", seed=1)


@pytest.mark.parametrize(
    ("attempt", "n", "k"),
    [((4, 1), 8, 2), ((2, 0), 8, 0), ((2, 2), 8, 8), ((100, 99), 8, 7), ((100, 1), 8, 1), ((8, 3), 8, 3)],
)
def test_other_numbers_of_samples_fall_into_the_nearest_bin_and_the_ends_stay_pure(attempt, n, k):
    assert bin_of(Attempt(*attempt), n) == k


def test_between_stages_what_is_solved_more_than_nine_times_of_ten_is_dropped_and_the_unvisited_is_kept():
    """The example of the published script: scores 1 and 7/8, twice 0, twice 1; 0.9 itself is kept."""
    scores = {"0": (8, 7), "1": (7, 8), "2": (0, 0), "3": (8, 8)}
    visits = [visit(name, step, k) for name, ks in scores.items() for step, k in enumerate(ks, start=1)]
    visits += [visit("nine", 1, 9, num_samples=10)]
    decisions = select_by_visits([problem(name) for name in [*scores, "nine", "new"]], visits)
    assert kept(decisions) == ["2", "nine", "new"]
    assert count_reasons(decisions) == {"never visited": 1, "no rule drops it": 2, "mean accuracy above 0.9": 3}


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("accuracy above=0.9", "abc"),
        ("accuracy above=0.9 by=latest", "b"),
        ("accuracy above=0.9 window=2", "b"),
        ("accuracy above=0.9 by=latest min_visits=4", "abc"),
        ("accuracy above=0.7 by=certainty window=3", "abc"),
        ("accuracy above=0.7 by=certainty window=2 certainty=0.99", "ab"),
    ],
)
def test_recent_visits_can_count_alone(rule, names):
    scores = {"a": (0, 7, 8), "b": (8, 8, 0), "c": (3, 8, 8)}
    visits = [visit(name, step, k) for name, ks in scores.items() for step, k in enumerate(ks, start=1)]
    assert "".join(kept(select_by_visits(map(problem, scores), visits, rules=(parse_rule(rule),)))) == names


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "no rule ''; give one of drop, accuracy, truncation, difference, cap, shape"),
        ("harder", "no rule 'harder'; give one of drop, accuracy, truncation, difference, cap, shape"),
        ("accuracy", "rule 'accuracy': no 'above'; expected 'above', 'by'"),
        ("accuracy above=high", "rule 'accuracy': above is 'high'; expected a number"),
        ("accuracy above=1.5", "rule 'accuracy': above is 1.5; expected a share from 0 to 1"),
        ("accuracy above=0.9 by=luck", "by is 'luck'; expected one of mean, latest, certainty"),
        ("accuracy above=0.9 by=latest window=3", "window is 3 with by=latest"),
        ("accuracy above=0.9 window=0", "window is 0; expected 1 or more"),
        ("accuracy above=0.9 window=1.5", "window is 1.5; expected a number"),
        ("accuracy above=0.9 min_visit=2", "unknown setting 'min_visit'; expected"),
        ("cap bin=9/8 share=0.5", "bin is '9/8'; expected k/n"),
        ("cap bin=0/0 share=0.5", "bin is '0/0'; expected k/n"),
        ("cap bin=0/8 share=1", "share is 1; expected a share from 0 to below 1"),
        ("shape target=J", "target is 'J'; expected one of mirrored-J"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule, message):
    with pytest.raises(SettingError) as error:
        parse_rule(rule)
    assert message in str(error.value)


def test_rules_are_read_from_toml_and_from_a_decisions_file(tmp_path):
    (tmp_path / "rules.toml").write_text(
        '[[rules]]\nrule = "drop"\n[[rules]]\nrule = "accuracy"\nabove = 0.9\nby = "latest"\nmin_visits = 2\n'
    )
    rules = (Extreme(), Accuracy(above=0.9, by="latest", min_visits=2))
    assert read_rules(tmp_path / "rules.toml") == rules
    problems, profile = [problem("a")], [difficulty("a", 3)]
    decisions = select(problems, profile, rules=rules)
    write_selection(tmp_path, problems, decisions, evidence=attempts_of(profile), rules=rules)
    assert read_rules(tmp_path / "decisions.json") == rules


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rules": []}', '{"rules": [3]}'])
def test_a_file_without_rules_is_refused(tmp_path, text):
    (tmp_path / "rules.json").write_text(text)
    with pytest.raises(SettingError, match=r"rules\.json"):
        read_rules(tmp_path / "rules.json")


def test_a_problem_without_a_profile_is_refused():
    with pytest.raises(ProblemFileError, match=r"1 of 2 problems have no profile, 'b' for one.*--limit"):
        select([problem("a"), problem("b")], [difficulty("a", 3)])


def test_a_profile_of_other_problems_is_refused():
    with pytest.raises(ProblemFileError, match=r"another problem set: 2 of its problems are not here, 'x'"):
        select([problem("a")], [difficulty(name, 3) for name in "ayx"])


def test_the_kept_problems_every_decision_and_the_pictures_are_written(tmp_path):
    problems = [problem(name) for name in "abc"]
    profile = [difficulty("a", 8), difficulty("b", 0), difficulty("c", 7)]
    write_selection(
        tmp_path / "out",
        problems,
        select(problems, profile),
        evidence=attempts_of(profile),
        rules=(Extreme(),),
        notes=["a <note>"],
    )
    assert read_problems(tmp_path / "out" / "selected.jsonl") == problems[1:]
    written = json.loads((tmp_path / "out" / "decisions.json").read_text())
    assert written["num_problems"] == 3 and written["num_kept"] == 2
    assert written["rules"] == [{"rule": "drop", "solved": "always"}]
    assert written["reasons"] == {"no rule drops it": 2, "always solved": 1}
    assert written["decisions"][0] == {"problem_id": "a", "kept": False, "reason": "always solved"}
    assert written["before"]["counts"] == [1, 0, 0, 0, 0, 0, 0, 1, 1] and written["after"]["always"] == 0
    assert (tmp_path / "out" / "selection.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "selection.html").read_text()
    assert "<svg" in page and "always solved" in page and "a &lt;note&gt;" in page and "script-src 'none'" in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "decisions.json",
        "selected.jsonl",
        "selection.html",
        "selection.png",
    ]


def test_a_profile_of_unequal_numbers_of_samples_gets_an_expected_histogram():
    evidence = {str(i): (Attempt(8, i % 9),) for i in range(90)} | {f"e{i}": (Attempt(4, 4),) for i in range(10)}
    shapes = histograms(evidence, {"1", "2", "10"})
    assert shapes["before"].num_problems == 100 and len(shapes["before"].counts) == 9
    assert shapes["after"].num_problems == 3


def test_pooling_adds_samples_up():
    assert pool([Attempt(8, 3), Attempt(4, 4)]) == Attempt(12, 7)


@pytest.mark.timeout(900)  # five starts of the command, on a machine that may be busy
def test_a_killed_selection_is_repeated_with_the_same_files(tmp_path):
    """Killed whenever a further file has appeared; what lies under its own name is whole, the end always the same."""
    problems = [problem(str(number)) for number in range(5_000)]
    write_problems(tmp_path / "p.jsonl", problems)
    write_profile(tmp_path / "p.profile.jsonl", [difficulty(p.problem_id, int(p.problem_id) % 9) for p in problems])

    def start(out):
        arguments = ["select", "p.jsonl", "p.profile.jsonl", "--rule", "cap bin=0/8 share=0.05", "--out", out]
        return subprocess.Popen(
            [sys.executable, "-m", "polaris_data", *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL
        )

    def contents(out):
        return {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}

    assert start("whole").wait() == 0
    whole = contents("whole")
    for name in ("selected.jsonl.settings.json", "selection.png", "decisions.json"):
        process = start("killed")
        while not (tmp_path / "killed" / name).exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = {name: data for name, data in contents("killed").items() if not name.endswith(".tmp")}
        assert done.items() <= whole.items()
        if name == "selected.jsonl.settings.json":
            assert process.returncode == -signal.SIGKILL and "selected.jsonl" not in done
    assert start("killed").wait() == 0
    assert contents("killed") == whole


LEVELS = ("1", "3", "3", "5", None)


def levelled():
    """Problems p0, p1, ... with a level each, the last without."""
    return [
        Problem(
            problem_id=f"p{place}", question="?", references=("1",), source="set-a" if place % 2 else "set-b",
            extra={} if level is None else {"level": int(level)},
        )
        for place, level in enumerate(LEVELS)
    ]  # fmt: skip


def test_a_column_decides_about_measured_and_unmeasured_problems_alike():
    rules = (parse_rule("keep level=3,5"), parse_rule("accuracy above=0.9"))
    visits = [visit("p0", 1, 1), visit("p1", 1, 8), visit("p2", 1, 4)]
    decisions = select_by_visits(levelled(), visits, rules=rules)
    assert [(each.problem_id, each.kept, each.reason) for each in decisions] == [
        ("p0", False, "level is not 3 or 5"),
        ("p1", False, "mean accuracy above 0.9"),
        ("p2", True, "no rule drops it"),
        ("p3", True, "never visited"),
        ("p4", False, "level is not 3 or 5"),
    ]


@pytest.mark.parametrize(("by", "left"), [("mean", ["a", "b", "c"]), ("latest", ["b", "c", "d"])])
def test_a_band_keeps_its_ends(by, left):
    evidence = {
        "a": (Attempt(10, 2), Attempt(10, 0)),  # 0.1 of all, 0 at last
        "b": (Attempt(10, 1),),
        "c": (Attempt(10, 8),),
        "d": (Attempt(10, 9), Attempt(10, 8)),  # 0.85 of all, 0.8 at last
        "e": (Attempt(10, 0),),
        "f": (Attempt(10, 10),),
    }
    rule = parse_rule(f"accuracy between 0.1 0.8 by={by}")
    assert kept(decide(evidence, evidence, [rule], seed=0)) == left
    assert parse_rule(to_data(rule)) == rule


def test_a_rule_by_column_is_read_back_from_the_decisions(tmp_path):
    rule = parse_rule("keep level=Level 3,Level 4")
    assert (rule.column, rule.values) == ("level", ("Level 3", "Level 4"))
    (tmp_path / "rules.json").write_text(json.dumps({"rules": [to_data(rule)]}))
    assert read_rules(tmp_path / "rules.json") == (rule,)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("keep level", "write it as keep COLUMN=VALUE,VALUE"),
        ("keep lvel=3", "no problem has a column 'lvel'; the columns are 'level', 'source'"),
        ("accuracy between 0.1", "write it as accuracy between LOW HIGH"),
        ("accuracy between 0.8 0.1", "low is 0.8 and high 0.1"),
        ("accuracy between 0.1 0.8 by=certainty", "by is 'certainty'; expected one of mean, latest"),
    ],
)
def test_a_rule_of_a_curriculum_that_cannot_be_followed_is_refused(line, said):
    with pytest.raises(SettingError, match=said):
        select_by_visits(levelled(), [visit("p1", 1, 8)], rules=(parse_rule(line),))


def test_columns_alone_select_without_a_profile_and_say_what_nobody_has(tmp_path):
    write_problems(tmp_path / "problems.jsonl", levelled())
    words = ["select", str(tmp_path / "problems.jsonl"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "polaris_data", *words, "--rule", "keep level=3,4"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "no problem has level '4'; the values are '1', '3', '5'" in done.stderr
    assert "2 of 5 problems are kept" in done.stdout
    decided = json.loads((tmp_path / "out" / "decisions.json").read_text())
    assert decided["reasons"] == {"no rule drops it": 2, "level is not 3 or 4": 3}
    assert [each.problem_id for each in read_problems(tmp_path / "out" / "selected.jsonl")] == ["p1", "p2"]
