"""Sampling ahead, simulated: against a run worked out by hand and against engines and trainer stepped tick by tick."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_rollout.cli.main import app
from polaris_rollout.errors import SettingError
from polaris_rollout.sharing.ahead import drawn_steps, print_ahead, read_finish_times, run_ahead
from polaris_rollout.sharing.simulate import Workload, makespan
from typer.testing import CliRunner

lengths = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=4)


def stepped(steps, *, ahead, update, num_engines, slots):
    """Every tick: begin what may begin, fill the free slots in turn, advance everybody. Returns what a timeline has."""
    groups, waiting = [], [[] for _ in range(num_engines)]
    running = [[None] * slots for _ in range(num_engines)]
    left = [sum(len(group) for group in step) for step in steps]
    begun = updated = update_left = tick = busy_engines = busy_slots = busy_trainer = 0
    while updated < len(steps):
        while begun < len(steps) and begun <= updated + ahead:
            groups += [(begun, group) for group in steps[begun]]
            begun += 1
        for slot in range(slots):
            for engine in range(num_engines):
                if running[engine][slot] is None:
                    if not waiting[engine] and groups:
                        step, group = groups.pop(0)
                        waiting[engine] = [(step, length) for length in group]
                    if waiting[engine]:
                        running[engine][slot] = waiting[engine].pop(0)
        if not update_left and left[updated] == 0:
            update_left = update
        busy_slots += sum(each is not None for engine in running for each in engine)
        busy_engines += sum(any(each is not None for each in engine) for engine in running)
        busy_trainer += update_left > 0
        tick += 1
        for engine in running:
            for slot, each in enumerate(engine):
                if each is not None:
                    step, length = each
                    engine[slot] = (step, length - 1) if length > 1 else None
                    left[step] -= length == 1
        if update_left:
            update_left -= 1
            updated += update_left == 0
    return (
        tick,
        1 - busy_engines / (num_engines * tick),
        1 - busy_slots / (num_engines * slots * tick),
        1 - busy_trainer / tick,
    )


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        # Sampled until 3, updated until 5; sampled until 7, updated until 9.
        (0, (9, 1 - 5 / 9, 1 - 8 / 18, 1 - 4 / 9)),
        # The second step begins at 1 and 3, where slots come free, and is done at 5: the trainer waits only at first.
        (1, (7, 1 - 5 / 7, 1 - 8 / 14, 1 - 4 / 7)),
        (2, (7, 1 - 5 / 7, 1 - 8 / 14, 1 - 4 / 7)),
    ],
)
def test_a_run_worked_out_by_hand(ahead, expected):
    line = run_ahead([[[3], [1]], [[2], [2]]], ahead=ahead, update=2, num_engines=1, slots=2)
    assert (line.makespan, line.engines_idle, line.slots_empty, line.trainer_idle) == pytest.approx(expected)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(lengths, min_size=1, max_size=5),
    ahead=st.integers(0, 3),
    update=st.integers(1, 12),
    num_engines=st.integers(1, 3),
    slots=st.integers(1, 4),
)
def test_a_run_equals_one_that_is_stepped_tick_by_tick(steps, **options):
    line = run_ahead(steps, **options)
    found = (line.makespan, line.engines_idle, line.slots_empty, line.trainer_idle)
    assert found == pytest.approx(stepped(steps, **options))


@given(step=lengths, num_engines=st.integers(1, 3), slots=st.integers(1, 4))
def test_a_step_alone_takes_the_makespan_of_its_groups(step, num_engines, slots):
    line = run_ahead([step], ahead=0, update=0, num_engines=num_engines, slots=slots)
    assert line.makespan == makespan(step, num_engines=num_engines, slots=slots)


def test_one_step_ahead_nearly_halves_the_time_where_an_update_takes_as_long_as_sampling():
    steps = drawn_steps(Workload(), 10)
    alone = run_ahead(steps, ahead=0, update=0, num_engines=8, slots=24).makespan / 10
    times = [run_ahead(steps, ahead=k, update=alone, num_engines=8, slots=24).makespan for k in (0, 1, 2)]
    assert times[0] == pytest.approx(20 * alone)
    assert times[2] <= times[1] < 0.6 * times[0]
    assert times[2] >= 10 * alone


def test_recorded_finish_times_are_steps_by_size(tmp_path):
    path = tmp_path / "times.jsonl"
    runs = [[[0, 0], [1, 3], [3, 5]], [[1, 2], [2, 2], [3, 9]], [[2, 4]]]
    lines = [{"run": "r", "total": run[-1][0], "finished_at_s": run} for run in runs]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_finish_times(path)
    assert found == {"3 requests": [[[3], [5], [5]], [[2], [2], [9]]], "2 requests": [[[4], [4]]]}
    # Sampled alone, each takes as long as was recorded: 5 and 9, and two updates of the mean, 7.
    line = run_ahead(found["3 requests"], ahead=0, update=7, num_engines=1, slots=3)
    assert line.makespan == 5 + 7 + 9 + 7


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "no finish times"),
        ('{"total": 2}', "no finish times"),
        ('{"total": 2, "finished_at_s": [[1, 5]]}', "1 of 2 requests finished"),
    ],
)
def test_other_lines_are_refused_with_their_place(tmp_path, line, said):
    path = tmp_path / "times.jsonl"
    path.write_text('{"total": 1, "finished_at_s": [[1, 5]]}\n' + line + "\n")
    with pytest.raises(SettingError, match=f"times.jsonl:2: .*{said}"):
        read_finish_times(path)


def test_an_update_that_takes_no_time_is_refused():
    with pytest.raises(SettingError, match="update is 0"):
        print_ahead({"a": [[[1]]]}, update=0)


def test_the_command_prints_a_row_for_each_number_of_steps_ahead(tmp_path):
    path = tmp_path / "times.jsonl"
    path.write_text('{"total": 2, "finished_at_s": [[1, 5], [2, 9]]}\n' * 3)
    done = CliRunner().invoke(app, ["simulate", "--finish-times", str(path), "--update", "0.5"])
    assert done.exit_code == 0, done.output
    rows = [line.split("│")[1:4] for line in done.stdout.splitlines() if "requests" in line]
    assert [row[1].strip() for row in rows] == ["0", "1", "2"]
    assert rows[0][2].strip() == "1.000"
