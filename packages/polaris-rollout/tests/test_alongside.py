"""Working on groups while the engine samples on."""

import threading
import time

import pytest
from polaris_rollout import Group, alongside


def groups(num, closed=None):
    try:
        for number in range(num):
            yield Group(problem_id=str(number), prompt_token_ids=(1,), completions=())
    finally:
        if closed is not None:
            closed.append(True)


def ids(batch):
    return [group.problem_id for group in batch]


def test_results_come_in_the_order_in_which_groups_finished():
    def handle(batch):
        time.sleep(0.001 * (int(batch[0].problem_id) % 3))
        return ids(batch)

    assert list(alongside(groups(50), handle)) == [str(number) for number in range(50)]
    assert list(alongside(groups(0), handle)) == []


def test_groups_are_sampled_while_an_earlier_one_is_handled():
    sampled, batches = threading.Event(), []

    def source():
        yield from groups(3)
        sampled.set()

    def handle(batch):
        assert sampled.wait(20)
        batches.append(ids(batch))
        return batches[-1]

    assert list(alongside(source(), handle)) == ["0", "1", "2"]
    assert [each for batch in batches for each in batch] == ["0", "1", "2"]
    assert len(batches) <= 2  # All that finished while the function was busy are given to it at once.


def test_what_the_function_raises_is_raised_to_the_caller():
    def handle(batch):
        raise ArithmeticError("no grade for " + batch[0].problem_id)

    closed = []
    with pytest.raises(ArithmeticError, match="no grade for 0"):
        list(alongside(groups(3, closed), handle))
    assert closed


def test_what_sampling_raises_is_raised_after_the_finished_groups_were_handled():
    handled = []

    def failing():
        yield from groups(2)
        raise ConnectionError("no server is left")

    def handle(batch):
        handled.extend(ids(batch))
        return []

    with pytest.raises(ConnectionError, match="no server"):
        list(alongside(failing(), handle))
    assert handled == ["0", "1"]


def test_a_caller_that_stops_early_stops_sampling_and_leaves_no_thread():
    closed = []
    results = alongside(groups(1000, closed), ids)
    assert next(results) == "0"
    results.close()
    assert closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("alongside")]
