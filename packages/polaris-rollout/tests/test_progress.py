"""What is shown while groups are sampled."""

import logging
import time

import pytest
from polaris_rollout import Completion, Group, progress
from polaris_rollout.contracts import EngineStatus
from polaris_rollout.progress import Meter, track


def group(num_tokens):
    answer = Completion(token_ids=(7,) * num_tokens, logprobs=(-0.5,) * num_tokens, text="", finish_reason="stop")
    return Group(problem_id="p", prompt_token_ids=(1,), completions=(answer,))


class Engines:
    """Two engines that do what they are told, one of which does not tell how long its answers are."""

    def __init__(self):
        self.sampled_tokens = 1000

    def status(self):
        return [
            EngineStatus(
                name="a",
                state="sampling",
                running=3,
                waiting=2,
                longest_running=1234,
                sampled_tokens=self.sampled_tokens,
            ),
            EngineStatus(name="b", state="idle", running=1, waiting=0, longest_running=None, sampled_tokens=500),
        ]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_before_a_group_is_finished_nobody_knows_the_time_left():
    clock = Clock()
    meter = Meter(total=10, done=4, clock=clock)
    clock.now += 5
    assert meter.read() == "0 tokens/s  0:00:05 elapsed  ? left"


def test_time_left_is_that_of_the_groups_of_this_run():
    clock = Clock()
    meter = Meter(total=10, done=4, clock=clock)
    for _ in range(2):
        meter.add(group(300))
    clock.now += 6
    assert meter.num_done == 6
    assert meter.read() == "100 tokens/s  0:00:06 elapsed  0:00:12 left"


def test_an_engine_tells_what_has_not_been_finished_yet():
    clock, engines = Clock(), Engines()
    meter = Meter(total=10, clock=clock, engine=engines)
    engines.sampled_tokens += 4000
    clock.now += 2
    assert meter.read() == "2,000 tokens/s  4 running  2 waiting  longest 1,234 tokens  0:00:02 elapsed  ? left"


def test_speed_is_that_of_the_last_minute():
    clock, engines = Clock(), Engines()
    meter = Meter(total=10, clock=clock, engine=engines)
    for speed in (*[100] * 300, *[700] * 70):
        clock.now += 1
        engines.sampled_tokens += speed
        figures = meter.read()
    assert figures.startswith("700 tokens/s")


def test_a_clock_that_stands_still_is_no_error():
    meter = Meter(total=1, clock=Clock())
    meter.add(group(5))
    assert "0:00:00 left" in meter.read()


def test_groups_pass_through_unchanged():
    groups = [group(number) for number in range(4)]
    assert list(track(iter(groups), total=4)) == groups


def test_a_log_tells_what_the_engine_does_while_no_group_arrives(caplog, monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.02)
    caplog.set_level(logging.INFO, "polaris_rollout")

    def slow():
        while "1,234" not in caplog.text:
            time.sleep(0.01)
        yield group(5)
        while "4/8" not in caplog.text:
            time.sleep(0.01)

    assert len(list(track(slow(), total=8, done=3, label="evaluating", engine=Engines()))) == 1
    first = caplog.messages[0]
    assert first.startswith("evaluating 3/8  0 tokens/s  4 running  2 waiting  longest 1,234 tokens  0:00:0")
    assert first.endswith("? left")


@pytest.mark.parametrize("columns", ["80", "140"])
def test_a_terminal_shows_a_bar_with_the_same_figures(capsys, monkeypatch, columns):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    assert len(list(track([group(5)] * 3, total=5, done=2, engine=Engines()))) == 3
    shown = capsys.readouterr().err
    assert "5/5" in shown
    assert "4 running" in shown


def test_a_caller_may_stop_early(caplog):
    groups = track(iter([group(1)] * 3), total=3)
    next(groups)
    groups.close()
    assert not caplog.records


def test_what_is_interrupted_says_how_much_is_kept(caplog):
    def groups():
        yield group(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(track(groups(), total=4))
    assert "interrupted: 1 of 4 are done; the same command continues" in caplog.text
