"""Words of messages."""


def counted(n: int, noun: str) -> str:
    """A number and what it counts: "1 label", "2 labels"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def shortened(text: object, longest: int) -> str:
    """A text as one line of at most so many characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
