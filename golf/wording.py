"""Words of messages."""


def counted(n: int, noun: str) -> str:
    """A number and what it counts: "1 label", "2 labels"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"
