"""Chance, which keeps callers who failed together from returning together."""


def chance() -> float:
    """Uniform in [0, 1)."""
    from random import (
        random,  # with what it brings along, a millisecond that a program without a failure need not start with
    )

    return random()  # noqa: S311  # nothing here is secret
