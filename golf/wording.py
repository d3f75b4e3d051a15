"""Words of messages."""


def and_more(n: int) -> str:
    """What follows the first of n: " and 3 more", or nothing."""
    return f" and {n - 1} more" if n > 1 else ""


def counted(n: int, noun: str) -> str:
    """A number and what it counts: "1 label", "2 labels"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def shortened(text: object, longest: int) -> str:
    """A text as one line of at most so many characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
