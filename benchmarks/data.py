"""Rows to load: the same for the same number, so that two measurements speak of the same work."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

WORDS: Final = [
    "amber",
    "basin",
    "birch",
    "canyon",
    "cedar",
    "cliff",
    "cloud",
    "coral",
    "creek",
    "delta",
    "dune",
    "ember",
    "falcon",
    "fern",
    "field",
    "flint",
    "forest",
    "garnet",
    "glacier",
    "grove",
    "harbor",
    "hazel",
    "heron",
    "island",
    "jasper",
    "juniper",
    "lagoon",
    "lake",
    "lark",
    "linen",
    "maple",
    "marsh",
    "meadow",
    "mesa",
    "mirror",
    "moss",
    "needle",
    "nova",
    "oak",
    "ocean",
    "olive",
    "opal",
    "orchid",
    "pebble",
    "pine",
    "plain",
    "prairie",
    "quartz",
    "quill",
    "rain",
    "raven",
    "reef",
    "ridge",
    "river",
    "rose",
    "sage",
    "shore",
    "slate",
    "spruce",
    "star",
    "stone",
    "storm",
    "summit",
    "thistle",
    "thorn",
    "tide",
    "topaz",
    "trail",
    "valley",
    "velvet",
    "willow",
    "wolf",
    "zephyr",
]
NOT_NUMBERS: Final = ("n/a", "-", "abc", "1.2.3")
HEADER: Final = "id,name,value,description,updated_at\n"
CHANGED_EVERY: Final = 100
_BEGIN: Final = datetime(2025, 1, 1, tzinfo=UTC)


def write_rows(folder: Path, rows: int) -> tuple[Path, Path]:
    """
    A CSV file of so many rows, some 110 bytes each, and the same with 1 % changed, spread evenly.

    Of the values 2 % are empty and 0.5 % are no numbers.
    """
    first, changed = folder / f"items_{rows}.csv", folder / f"items_{rows}_changed.csv"
    if not (first.exists() and changed.exists()):
        rng = random.Random(rows)
        with first.open("w", encoding="utf-8") as one, changed.open("w", encoding="utf-8") as other:
            one.write(HEADER)
            other.write(HEADER)
            for number in range(1, rows + 1):
                line = _line(number, rng)
                one.write(line)
                other.write(_line(number, rng) if number % CHANGED_EVERY == 37 else line)
    return first, changed


def planted_faults(file: Path) -> int:
    """How many of a file's values are neither empty nor numbers."""
    with file.open(encoding="utf-8") as lines:
        return sum(line.split(",", 3)[2] in NOT_NUMBERS for line in lines)


def _line(number: int, rng: random.Random) -> str:
    chance = rng.random()
    value = "" if chance < 0.02 else rng.choice(NOT_NUMBERS) if chance < 0.025 else f"{rng.random() * 1e5:.2f}"
    words = rng.choices(WORDS, k=10)
    said = " ".join(words[2:])
    if number % 50 == 0:
        said = f'"{words[2]}, ""{words[3]}"" {said}"'
    moment = _BEGIN + timedelta(seconds=rng.randrange(31_536_000))
    return f"{number},{words[0]} {words[1]},{value},{said},{moment:%Y-%m-%dT%H:%M:%SZ}\n"
