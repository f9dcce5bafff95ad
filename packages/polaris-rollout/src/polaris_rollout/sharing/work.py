"""Sharing work among engines: whoever has room takes the next item, the longest first.

Lengths of reasoning differ by a factor of fifty and are known only afterwards, so a split made beforehand leaves
most engines waiting for the unluckiest one. Here an atomic counter in a store hands out the items one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Protocol, TypeVar

from polaris_rollout.contracts import Sampler
from polaris_rollout.errors import SettingError
from polaris_rollout.records import Group, Prompt, SamplingParams, distinct

Item = TypeVar("Item")


class WorkStore(Protocol):
    """What ranks share; every ``torch.distributed.Store`` is one."""

    def add(self, key: str, value: int, /) -> int:
        """Add to a counter that starts at 0 and return its new value, atomically."""
        ...

    def set(self, key: str, value: str, /) -> None:
        """Store a value."""
        ...

    def get(self, key: str, /) -> bytes:
        """Return a value; wait until somebody has stored it."""
        ...


def shared_work(
    items: Sequence[Item], store: WorkStore, name: str, *, rank: int = 0, tensor_parallel: int = 1
) -> Iterator[Item]:
    """Yield the items that this rank's engine takes; each item goes to exactly one engine.

    An item is taken when the iterator is advanced, so a sampler that draws only what it has room for leaves the
    rest to the others. The ranks of one engine work in lock step and must see the same items in the same order:
    the first of them draws, the others read from the store what it drew.

    Args:
        items: The same on every rank.
        store: Reached by all ranks.
        name: Of this work; not used before in this store.
        rank: Of this process.
        tensor_parallel: Ranks that form one engine.
    """
    engine, place = divmod(rank, tensor_parallel)
    for turn in count():
        drawn = f"{name}/{engine}/{turn}"
        if place:
            index = int(store.get(drawn))
        else:
            index = store.add(name, 1) - 1
            if tensor_parallel > 1:
                store.set(drawn, str(index))
        if index >= len(items):
            return
        yield items[index]


def longest_first(items: Iterable[Item], expected: Callable[[Item], float | None]) -> list[Item]:
    """Return the items by expected length, longest first, so that what is begun last is over soon.

    An item of unknown length counts as the mean of the known ones: it comes after those known to be long and
    before those known to be short. Equal items keep their order.

    Args:
        items: In any order.
        expected: Length of an item, in any unit; ``None`` where nothing is known.
    """
    in_order = list(items)
    lengths = [expected(item) for item in in_order]
    known = [length for length in lengths if length is not None]
    mean = sum(known) / len(known) if known else 0.0
    ranks = [mean if length is None else length for length in lengths]
    return [in_order[i] for i in sorted(range(len(in_order)), key=lambda i: -ranks[i])]


def fair_share(num_completions: int, num_engines: int) -> int:
    """Return how many completions an engine may hold at once without taking work that others could begin.

    An engine with memory for a whole step would otherwise draw all of it before its siblings look.

    Raises:
        SettingError: If a number is not positive.
    """
    if num_completions < 1 or num_engines < 1:
        raise SettingError(f"{num_completions} completions on {num_engines} engines; give 1 or more of each")
    return -(-num_completions // num_engines)


class SharedSampler:
    """This rank's sampler, as one of several that share the prompts they are all given."""

    def __init__(self, sampler: Sampler, store: WorkStore, *, rank: int, tensor_parallel: int = 1) -> None:
        """Join the ranks that share work through a store.

        Args:
            sampler: Of this rank.
            store: Reached by all ranks and used for nothing else.
            rank: Of this process.
            tensor_parallel: Ranks that form one engine.
        """
        self._sampler = sampler
        self._store = store
        self._rank = rank
        self._tensor_parallel = tensor_parallel
        self._num_calls = 0

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        """Yield the groups that this rank took, as they finish; over all ranks each prompt gives one group.

        Collective: every rank gives the same prompts in the same order and takes all that is yielded. Of the
        ranks that form one engine only the first yields.
        """
        self._num_calls += 1
        work = shared_work(
            list(distinct(prompts)),
            self._store,
            f"work-{self._num_calls}",
            rank=self._rank,
            tensor_parallel=self._tensor_parallel,
        )
        for group in self._sampler.sample(work, params, n=n):
            if self._rank % self._tensor_parallel == 0:
                yield group
