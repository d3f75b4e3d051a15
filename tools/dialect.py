"""Find phrases that read as translated, and say what to write instead.

    python tools/dialect.py [FILE ...]

Without files it reads the tracked files of `PLACES`. The exit status is 1 if there is a hit. A phrase may
continue on the next line, also in a comment or a string.
"""

import re
import subprocess
import sys
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

PLACES = ("golf", "rules", "workflow_scripts", "schemas", "docs", "benchmarks", "setup", "README.md", "CHANGELOG.md")
SUFFIXES = {".py", ".smk", ".yaml", ".md", ".j2", ".c", ".sh"}

# Phrase (a regular expression over text with single blanks) and what to write instead.
DIALECT = {
    r"\banew\b": "again",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b[Ss]o many\b": "name the number: `n_slots` slots, at most `longest` characters, N kcal/mol",
    r"(?<!\bthere)(?<!\bThere) (is|are|was|were|be) no "
    r"(?!longer|more|less|better|worse|larger|smaller|faster|different|one\b)[A-Za-z]+": "is not a ...",
    r"(?<!there) (is|are) none\b": "is not one",
    r"\b[Ss]t(ands?|ood)\b(?! (for|alone|still)\b)(?!-)": "is, appears, is written",
    r"\b[Ww]hat of\b": "name it: the part that, the difference between",
    r"\b([Ww]hoever|Who|one who|to who)\b(?! (is|are|has|can)\b)": "who needs a noun: callers that, a user who",
    r"\bdear(er|est)?\b": "expensive",
    r", too\b(?! (many|much|few|little|long|large|small|short|far|high|low|old|new|big|slow|late|early)\b)": "also",
    r"\bof before\b": "previous, earlier",
    r"\b[Gg]o(es)? on\b": "resume, continue",
    r"\bwithout a meaning\b": "ignored",
    r"\bat one (point|place)\b": "at the same position",
    r"\bof a golf that\b": "of another version of golf",
    r"\bthat one's\b": "name the owner",
    r"\bthe present\b": "current",
    r"\b(be|to be) had\b": "available, obtained",
    r"\b(hold|holds|held) (\w+ )?against\b": "compare with, check against",
    r"\bas it always looks\b": "normalized",
    r"\bif all is\b": "name what",
    r"\b(is|are) said\b(?! to)": "is reported, is printed",
    r"\bsays? so\b": "reports it, warns",
    r"\bbe (made|done) again\b": "regenerate, repeat",
}


def hits(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, phrase and what to write instead for each phrase of the list in a text."""
    lines = [re.sub(r'^([\s#]|f?"+)+|(\s|"+)+$', "", line) for line in text.splitlines()]
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    joined = re.sub(r"\s", " ", " ".join(lines))
    for phrase, plain in DIALECT.items():
        for match in re.finditer(phrase, joined):
            first = match.start() + len(match[0]) - len(match[0].lstrip())
            yield bisect(starts, first), match[0].strip(), plain


def main(names: list[str]) -> int:
    """Print every hit in these files, then the number of hits of each phrase."""
    if not names:
        listed = subprocess.run(["git", "ls-files", *PLACES], capture_output=True, text=True, check=True)
        names = listed.stdout.splitlines()
    counts: Counter[str] = Counter()
    for path in map(Path, names):
        if path.suffix in SUFFIXES:
            for line, phrase, plain in sorted(hits(path.read_text(encoding="utf-8"))):
                print(f"{path}:{line}: {phrase!r}; write: {plain}")
                counts[phrase.lower()] += 1
    if counts:
        print(f"{counts.total()} phrases:", ", ".join(f"{phrase} {n}" for phrase, n in counts.most_common()))
    return int(bool(counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
