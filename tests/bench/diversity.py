"""Measure distinct-4 of 32 answers of 50,000 words beside the obvious Python loop; both give the same value.

Run as ``python tests/bench/diversity.py``. The ways take turns, tokenising included, and the medians are compared.
Words follow Zipf's law over a vocabulary with the lengths of English and LaTeX tokens.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from polaris_rollout.temperature import distinct_n
from polaris_rollout.temperature.diversity import expected_distinct_n

NUM_WORDS = 30_000
ZIPF_EXPONENT = 1.1
MEAN_EXTRA_LETTERS = 4.5


def main() -> None:
    """Print the medians, their ratios, and the values as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=32)
    parser.add_argument("--words", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    texts = zipf_texts(arguments.answers, arguments.words)
    ways: dict[str, Callable[[], float]] = {
        "loop": lambda: distinct_by_loop(texts),
        "zip": lambda: distinct_by_zip(texts),
        "distinct_n": lambda: float(distinct_n([texts])[0]),
        "expected_distinct_n": lambda: float(
            expected_distinct_n([texts], num_samples=arguments.answers // 2, num_tokens=arguments.words // 10)[0]
        ),
        "expected_distinct_n, whole answers": lambda: float(
            expected_distinct_n([texts], num_samples=arguments.answers // 2, num_tokens=arguments.words)[0]
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, float] = {}
    for _ in range(arguments.runs):
        for name, way in ways.items():
            started = time.perf_counter()
            values[name] = way()
            seconds[name].append(time.perf_counter() - started)
    assert abs(values["loop"] - values["distinct_n"]) < 1e-12
    assert abs(values["zip"] - values["distinct_n"]) < 1e-12
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    report = {
        "seconds": medians,
        "values": values,
        "words_per_second": {name: arguments.answers * arguments.words / each for name, each in medians.items()},
        "times_the_loop": medians["loop"] / medians["distinct_n"],
        "times_the_zip": medians["zip"] / medians["distinct_n"],
    }
    print(json.dumps(report, indent=2))


def distinct_by_loop(texts: Sequence[str], n: int = 4) -> float:
    """Compute the score as one would write it down."""
    distinct: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = text.split()
        for start in range(len(words) - n + 1):
            distinct.add(tuple(words[start : start + n]))
            total += 1
    return len(distinct) / total


def distinct_by_zip(texts: Sequence[str], n: int = 4) -> float:
    """Compute the score with the loop handed to the interpreter's own iterators."""
    distinct: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = text.split()
        distinct.update(zip(*(words[offset:] for offset in range(n)), strict=False))
        total += max(0, len(words) - n + 1)
    return len(distinct) / total


def zipf_texts(num_texts: int, num_words: int, seed: int = 0) -> list[str]:
    """Draw texts whose words follow Zipf's law."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789\\{}^_=+$"))
    vocabulary = np.array(
        ["".join(rng.choice(letters, 1 + length)) for length in rng.poisson(MEAN_EXTRA_LETTERS, NUM_WORDS)]
    )
    shares = 1 / np.arange(1, NUM_WORDS + 1) ** ZIPF_EXPONENT
    shares /= shares.sum()
    return [" ".join(vocabulary[rng.choice(NUM_WORDS, num_words, p=shares)]) for _ in range(num_texts)]


if __name__ == "__main__":
    main()
