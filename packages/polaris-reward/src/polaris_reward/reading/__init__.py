"""Answers as text, tokens and trees."""
