"""Work shared by several takers: each item once, the longest first, ranks of one engine in lock step."""

import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_rollout import Completion, Group, Prompt, SamplingParams
from polaris_rollout.errors import SettingError
from polaris_rollout.sharing.work import SharedSampler, fair_share, longest_first, shared_work


class ThreadStore:
    """A store for the threads of one process, with the semantics of torch's."""

    def __init__(self):
        self._values = {}
        self._changed = threading.Condition()

    def add(self, key, value, /):
        with self._changed:
            self._values[key] = self._values.get(key, 0) + value
            return self._values[key]

    def set(self, key, value, /):
        with self._changed:
            self._values[key] = value.encode()
            self._changed.notify_all()

    def get(self, key, /):
        with self._changed:
            assert self._changed.wait_for(lambda: key in self._values, timeout=10)
            return self._values[key]


def on_every_rank(num_ranks, work):
    """Run ``work(rank)`` in a thread for each rank; return the results by rank."""
    results = [None] * num_ranks

    def run(rank):
        results[rank] = work(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return results


def test_every_item_goes_to_exactly_one_taker():
    store, items = ThreadStore(), [f"item {i}" for i in range(1000)]
    taken = on_every_rank(8, lambda rank: list(shared_work(items, store, "step")))
    assert Counter(item for share in taken for item in share) == Counter(items)


def test_who_has_room_takes_more():
    store = ThreadStore()

    def work(rank):
        share = []
        for item in shared_work(range(40), store, "step"):
            share.append(item)
            time.sleep(0.02 if rank == 0 else 0.001)
        return share

    slow, fast = on_every_rank(2, work)
    assert len(slow) < len(fast)
    assert sorted(slow + fast) == list(range(40))


def test_nothing_is_taken_before_it_is_asked_for():
    store = ThreadStore()
    hoarder, other = shared_work("abcd", store, "step"), shared_work("abcd", store, "step")
    assert next(hoarder) == "a"
    assert list(other) == ["b", "c", "d"]
    assert list(hoarder) == []


def test_works_of_different_names_do_not_mix():
    store = ThreadStore()
    assert list(shared_work("ab", store, "one")) == ["a", "b"]
    assert list(shared_work("ab", store, "two")) == ["a", "b"]


@pytest.mark.parametrize("tensor_parallel", [2, 3])
def test_the_ranks_of_one_engine_see_the_same_items_in_the_same_order(tensor_parallel):
    store = ThreadStore()
    shares = on_every_rank(
        6, lambda rank: list(shared_work(range(60), store, "step", rank=rank, tensor_parallel=tensor_parallel))
    )
    engines = [shares[first : first + tensor_parallel] for first in range(0, 6, tensor_parallel)]
    assert all(share == ranks[0] for ranks in engines for share in ranks)
    assert sorted(item for ranks in engines for item in ranks[0]) == list(range(60))


def test_the_longest_come_first_and_unknown_ones_at_the_mean():
    expected = {"short": 1.0, "long": 9.0, "middle": 5.0, "unknown": None, "other": None}
    assert longest_first(expected, expected.get) == ["long", "middle", "unknown", "other", "short"]
    assert longest_first("cab", lambda _: None) == ["c", "a", "b"]


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(0, 1e6)))
def test_ordering_keeps_every_item(lengths):
    in_order = longest_first(range(len(lengths)), lengths.__getitem__)
    assert sorted(in_order) == list(range(len(lengths)))
    known = [lengths[i] for i in in_order if lengths[i] is not None]
    assert known == sorted(known, reverse=True)


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 100))
def test_fair_shares_hold_all_the_work_and_no_more_than_one_each_beyond(num_completions, num_engines):
    share = fair_share(num_completions, num_engines)
    assert share * num_engines >= num_completions > (share - 1) * num_engines


def test_a_share_of_nothing_is_refused():
    with pytest.raises(SettingError, match="0 engines"):
        fair_share(8, 0)


class Echo:
    """A sampler whose completions say which rank drew them."""

    def __init__(self, rank):
        self.rank = rank
        self.drawn = []

    def sample(self, prompts, params, *, n):
        for prompt in prompts:
            self.drawn.append(prompt.problem_id)
            completion = Completion(token_ids=(self.rank,), logprobs=(0.0,), text=prompt.text, finish_reason="stop")
            yield Group(problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=(completion,) * n)


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_samplers_that_share_prompts_give_one_group_for_each_at_every_call(tensor_parallel):
    store = ThreadStore()
    echoes = [Echo(rank) for rank in range(4)]
    samplers = [SharedSampler(echo, store, rank=echo.rank, tensor_parallel=tensor_parallel) for echo in echoes]
    for call in range(3):
        prompts = [Prompt(problem_id=f"{call}-{i}", text="?") for i in range(30)]
        shares = on_every_rank(
            4, lambda rank, prompts=prompts: list(samplers[rank].sample(prompts, SamplingParams(), n=2))
        )
        groups = [group for share in shares for group in share]
        assert sorted(group.problem_id for group in groups) == sorted(prompt.problem_id for prompt in prompts)
        assert all(group.completions[0].token_ids[0] % tensor_parallel == 0 for group in groups)
    assert echoes[1].drawn == echoes[0].drawn or tensor_parallel == 1
