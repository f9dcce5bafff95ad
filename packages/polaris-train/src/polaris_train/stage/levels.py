"""Levels at which alarms ring: those at which the field has seen runs break."""

PROB_GAP = 0.01
"""Mean difference of probabilities between trainer and engine; healthy runs stay below 0.005."""

TRUNCATED_SHARE = 0.1
"""Of answers that the token budget ended: more, and the budget is too short for the model."""

ZERO_SIGNAL_SHARE = 2 / 3
"""Of groups all right or all wrong: more, and most of the sampling teaches nothing."""

ENTROPY_SHARE = 0.3
"""Of the stage's first entropies that must be left: less, and exploration has collapsed."""

SPIKE = 5.0
"""A gradient norm so many times the median of the newest steps is a spike."""

GROWTH = 0.01
"""Of a process's memory, gained steadily over 60 steps: more, and a stage of thousands of steps may not end."""
