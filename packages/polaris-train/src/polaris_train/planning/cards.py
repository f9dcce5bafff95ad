"""Cards that can be planned for, and the machine that they are in."""

from dataclasses import dataclass
from difflib import get_close_matches

from polaris_train.errors import PlanError

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a maker's data sheet says of a GPU."""

    name: str
    memory_gib: float
    bandwidth: float
    """Bytes per second that its memory gives."""
    flops: float
    """Per second in half precision, dense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Cards of one kind, one rank on each, and the host that they are in."""

    card: Card
    num_ranks: int
    memory_gib: float
    """Of each card; of the host on a CPU."""
    host_gib: float
    """Of the host, for what is offloaded."""
    ranks_per_node: int
    """Ranks that share a sequence are of one node."""

    @property
    def on_cpu(self) -> bool:
        """Whether there is no card."""
        return self.card.name == "cpu"


def _card(name: str, memory_gib: float, terabytes_per_s: float, teraflops: float) -> Card:
    return Card(name=name, memory_gib=memory_gib, bandwidth=terabytes_per_s * 1e12, flops=teraflops * 1e12)


CARDS = {
    card.name: card
    for card in (
        _card("h100", 80, 3.35, 989),
        _card("h200", 141, 4.8, 989),
        _card("h800", 80, 3.35, 989),
        _card("b200", 180, 8.0, 2250),
        _card("a100", 80, 2.04, 312),
        _card("a100-40gb", 40, 1.56, 312),
        _card("l40s", 48, 0.864, 362),
        _card("a6000", 48, 0.768, 155),
        _card("rtx-5090", 32, 1.79, 210),
        _card("rtx-4090", 24, 1.01, 165),
        _card("rtx-3090", 24, 0.936, 71),
        _card("a10", 24, 0.6, 125),
        _card("l4", 24, 0.3, 121),
        _card("cpu", 16, 0.02, 0.1),
    )
}
"""By name. Memory in GiB as it is sold; speeds of the SXM form where there are several."""

_CARDS_PER_NODE = 8
"""As machines are sold and rented, at most."""

_HOST_GIB_PER_CARD = 2.0
"""Memory of the host that a rented machine has for each GiB of a card's, at least."""


def find_machine(
    name: str, *, num_ranks: int, memory_gib: float | None = None, host_gib: float | None = None
) -> Machine:
    """Return a machine with cards of that name.

    Args:
        name: One of `CARDS`.
        num_ranks: Cards.
        memory_gib: Of each, where it is not what the name says.
        host_gib: Of the host; by default twice that of its cards.

    Raises:
        PlanError: If there is no such card, or a number is not positive.
    """
    card = CARDS.get(name.lower())
    if card is None:
        near = get_close_matches(name.lower(), CARDS, n=3)
        hint = f"; near it are {', '.join(near)}" if near else ""
        raise PlanError(
            f"--gpu {name!r} is unknown{hint}: give one of {', '.join(CARDS)}, the most like yours, with --gpu-memory"
        )
    for option, value in (("--gpu-memory", memory_gib), ("--host-memory", host_gib)):
        if value is not None and not value > 0:
            raise PlanError(f"{option} is {value:g}; give GiB above 0")
    memory = card.memory_gib if memory_gib is None else memory_gib
    host = memory * num_ranks * _HOST_GIB_PER_CARD if host_gib is None else host_gib
    ranks_per_node = min(num_ranks, _CARDS_PER_NODE)
    return Machine(card=card, num_ranks=num_ranks, ranks_per_node=ranks_per_node, memory_gib=memory, host_gib=host)
