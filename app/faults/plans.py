"""What is to go wrong, and where: `kill@after_commit:2`, `http_500@page3`, and several of them in one line."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from app.errors import ConfigError

StoreAction = Literal["kill", "stop", "reset", "hole", "delay"]
"""
kill: SIGKILL, and what was about to pass is lost. stop: SIGSTOP, for a while; what the process had sent
arrives. reset: its connection is cut. hole: nothing passes on any connection for a while, then they are cut.
delay: this once, it takes a while.
"""
SourceAction = Literal["http_500", "cut_body", "dup_page", "slow", "reorder"]
"""
http_500: the answer is a 500, and the source is not asked. cut_body: half of the body, then the connection ends.
dup_page: the answer to the page before, at the same path, once more. slow: the body dribbles in over a while.
reorder: the records of a JSON page in another order, each byte for byte as it was.
"""
Action = Literal[StoreAction, SourceAction]
Edge = Literal["before_commit", "after_commit", "sent", "received", "page", "asked", "answered"]
"""
before_commit: a COMMIT is about to reach the server. after_commit: it is committed, and the answer is about to
reach the process. sent, received: any chunk is about to reach the server, or the process. page: an address
is asked at the source; it keeps the number it got when it was first asked. asked, answered: the same page, when
the process has asked for it, and when half of the answer has reached it.
"""
COMMIT_EDGES: Final[tuple[Edge, ...]] = ("before_commit", "after_commit")
CHUNK_EDGES: Final[tuple[Edge, ...]] = ("sent", "received")
PAGE_EDGES: Final[tuple[Edge, ...]] = ("asked", "answered")

STORE_ACTIONS: Final = get_args(StoreAction)
SOURCE_ACTIONS: Final[tuple[SourceAction, ...]] = get_args(SourceAction)
_NUMBER: Final = r"([1-9][0-9]{0,8})"
_AT_STORE: Final = re.compile(rf"({'|'.join(STORE_ACTIONS)})@({'|'.join(COMMIT_EDGES + CHUNK_EDGES)}):{_NUMBER}")
_AT_SOURCE: Final = re.compile(rf"({'|'.join(SOURCE_ACTIONS)})@(page){_NUMBER}")
_KILLED_AT_SOURCE: Final = re.compile(rf"(kill)@({'|'.join(PAGE_EDGES)}):{_NUMBER}")
_SEED: Final = re.compile(r"seed\s*=\s*([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong at one place."""

    action: Action
    edge: Edge
    number: int
    """From 1: over all connections to the database, or of pages in the order in which they were first asked."""

    def __str__(self) -> str:
        return f"{self.action}@{self.edge}{'' if self.edge == 'page' else ':'}{self.number}"

    @property
    def is_at_source(self) -> bool:
        return self.edge == "page" or self.edge in PAGE_EDGES


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults of one trial; those without a place get one from the seed, once it is known what places there are."""

    wishes: tuple[Fault | Action, ...]
    seed: int | None = None
    """None: the plan does not say."""

    def __str__(self) -> str:
        seed = [] if self.seed is None else [f"seed={self.seed}"]
        return "; ".join([*map(str, self.wishes), *seed])

    @property
    def actions(self) -> set[Action]:
        return {wish.action if isinstance(wish, Fault) else wish for wish in self.wishes}

    @property
    def faults(self) -> list[Fault]:
        """Those that have a place."""
        return [wish for wish in self.wishes if isinstance(wish, Fault)]


def parse_fault(text: str) -> Fault:
    """
    Raises:
        ConfigError: it names no fault.
    """
    forms = (_AT_STORE, _AT_SOURCE, _KILLED_AT_SOURCE)
    found = next(filter(None, (form.fullmatch(text.strip()) for form in forms)), None)
    if found is None:
        raise ConfigError(
            f"{text!r} names no fault; it is ACTION@EDGE:NUMBER with one of {', '.join(STORE_ACTIONS)} at one of "
            f"{', '.join(COMMIT_EDGES + CHUNK_EDGES)}, for example kill@after_commit:2; or ACTION@pageNUMBER with one "
            f"of {', '.join(SOURCE_ACTIONS)}, for example http_500@page3; or kill@asked:NUMBER, kill@answered:NUMBER"
        )
    return Fault(cast("Action", found[1]), cast("Edge", found[2]), int(found[3]))


def parse_plan(text: str) -> Plan:
    """
    Faults and a seed, separated by semicolons: `http_500@page3; kill; seed=7`.

    Raises:
        ConfigError: something in it names no fault, or it holds none, or two seeds.
    """
    wishes, seeds = list[Fault | Action](), list[int]()
    for part in filter(None, (part.strip() for part in text.split(";"))):
        if seed := _SEED.fullmatch(part):
            seeds.append(int(seed[1]))
        elif part in STORE_ACTIONS or part in SOURCE_ACTIONS:
            wishes.append(cast("Action", part))
        else:
            wishes.append(parse_fault(part))
    if not wishes or len(seeds) > 1:
        fault = "holds no fault" if not wishes else "holds two seeds"
        raise ConfigError(f"{text!r} {fault}; for example http_500@page3; kill@after_commit:2; slow; seed=7")
    return Plan(tuple(wishes), seeds[0] if seeds else None)


def place_faults(
    plan: Plan, counted: Mapping[Edge, int], pages: Mapping[SourceAction, Sequence[int]], *, seed: int
) -> Plan:
    """
    The plan with a place for each fault for which there is one; the same seed chooses the same of the same places.

    Args:
        counted: edges that an undisturbed run passes.
        pages: at which each action can happen.
        seed: where the plan has none.
    """
    seed = seed if plan.seed is None else plan.seed
    rng = random.Random(seed)  # noqa: S311 -- repeatable, that is its point
    placed = list[Fault | Action]()
    for wish in plan.wishes:
        if isinstance(wish, Fault):
            placed.append(wish)
            continue
        if wish in SOURCE_ACTIONS:
            places: list[tuple[Edge, int]] = [("page", number) for number in pages.get(wish, ())]
        else:
            places = [(edge, at + 1) for edge in COMMIT_EDGES for at in range(counted.get(edge, 0))]
        free = [
            place
            for place in places
            if place not in {(fault.edge, fault.number) for fault in Plan(tuple(placed)).faults}
        ]
        placed.append(Fault(wish, *rng.choice(free or places)) if places else wish)
    return Plan(tuple(placed), seed)


def plan_faults(counted: Mapping[Edge, int], edges: Sequence[Edge], *, most: int, seed: int) -> list[Fault]:
    """
    A kill at every edge that was counted; at most so many of them, then chosen by the seed.

    Returns:
        In the order in which they would happen.
    """
    every = [
        Fault("kill", edge, number)
        for number in range(1, max((counted.get(edge, 0) for edge in edges), default=0) + 1)
        for edge in edges
        if number <= counted.get(edge, 0)
    ]
    if len(every) <= most:
        return every
    chosen = random.Random(seed).sample(range(len(every)), most)  # noqa: S311 -- repeatable, that is its point
    return [every[at] for at in sorted(chosen)]
