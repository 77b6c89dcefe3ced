"""Where the boxes and arrows of a drawing go: layers from left to right.

The way of Sugiyama, Tagawa and Toda (1981): turn back edges round, put every box one layer behind
its furthest predecessor, bend long arrows at the layers they pass, order each layer by the median
of its neighbours, then pull the boxes towards them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

Point = tuple[float, float]
#: A box, or the bend of a long arrow: (number of the arrow, layer).
Place = str | tuple[int, int]

GAP_X: Final = 104.0
GAP_Y: Final = 30.0
MARGIN: Final = 28.0
BEND: Final = 14.0
SWEEPS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A placed box: ``x`` and ``y`` are its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def center(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way of one arrow: the points it passes; ``is_back`` if it leads against the flow."""

    points: tuple[Point, ...]
    is_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    boxes: Mapping[str, Box]
    routes: tuple[Route, ...]
    width: float
    height: float


def lay_out(names: Sequence[str], edges: Sequence[tuple[str, str]], sizes: Mapping[str, Point]) -> Layout:
    """Place the boxes (sizes are width and height) and route the arrows; the same input, the same picture."""
    back = _back_edges(names, edges)
    layer = _layers(names, edges, back)
    chains = [_chain(number, edge, layer) for number, edge in enumerate(edges)]
    columns = _columns(names, layer, chains)
    neighbours = _neighbours(chains)
    _order(columns, neighbours)
    heights = {place: sizes[place][1] if isinstance(place, str) else BEND for column in columns for place in column}
    ys = _pull(columns, neighbours, heights)
    widths = [max((sizes[p][0] for p in column if isinstance(p, str)), default=BEND) for column in columns]
    lefts = [MARGIN + sum(widths[:number]) + GAP_X * number for number in range(len(columns))]
    boxes = {
        name: Box(
            x=lefts[layer[name]] + (widths[layer[name]] - sizes[name][0]) / 2,
            y=ys[name],
            width=sizes[name][0],
            height=sizes[name][1],
        )
        for name in names
    }
    bends: dict[Place, Point] = {
        place: (lefts[number] + widths[number] / 2, ys[place] + BEND / 2)
        for number, column in enumerate(columns)
        for place in column
        if not isinstance(place, str)
    }
    routes = tuple(
        _route(edge, chain, boxes, bends, number in back, _twins(edges, number))
        for number, (edge, chain) in enumerate(zip(edges, chains, strict=True))
    )
    return _framed(boxes, routes)


def _back_edges(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> frozenset[int]:
    """The arrows that close a circle, found by going down from the first box."""
    leaving = defaultdict(list)
    for number, (source, _) in enumerate(edges):
        leaving[source].append(number)
    state: dict[str, str] = {}
    back = set()
    for root in names:
        stack = [] if root in state else [(root, iter(leaving[root]))]
        state.setdefault(root, "under way")
        while stack:
            name, ways = stack[-1]
            for number in ways:
                target = edges[number][1]
                if state.get(target) == "under way":
                    back.add(number)
                elif target not in state:
                    state[target] = "under way"
                    stack.append((target, iter(leaving[target])))
                    break
            else:
                state[name] = "done"
                stack.pop()
        state[root] = "done"
    return frozenset(back)


def _layers(names: Sequence[str], edges: Sequence[tuple[str, str]], back: frozenset[int]) -> dict[str, int]:
    """The longest way to each box, by going through them in topological order."""
    forward = [(t, s) if number in back else (s, t) for number, (s, t) in enumerate(edges) if s != t]
    after, waiting_for = defaultdict(list), dict.fromkeys(names, 0)
    for source, target in forward:
        after[source].append(target)
        waiting_for[target] += 1
    layer = dict.fromkeys(names, 0)
    free = [name for name in names if not waiting_for[name]]
    while free:
        name = free.pop()
        for target in after[name]:
            layer[target] = max(layer[target], layer[name] + 1)
            waiting_for[target] -= 1
            if not waiting_for[target]:
                free.append(target)
    return layer


def _chain(number: int, edge: tuple[str, str], layer: Mapping[str, int]) -> list[Place]:
    """The arrow as the places it passes, from its source to its target."""
    source, target = edge
    first, last = layer[source], layer[target]
    between = range(first + 1, last) if first <= last else range(first - 1, last, -1)
    return [source, *[(number, at) for at in between], target]


def _columns(names: Sequence[str], layer: Mapping[str, int], chains: Sequence[Sequence[Place]]) -> list[list[Place]]:
    columns: list[list[Place]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for name in names:
        columns[layer[name]].append(name)
    for chain in chains:
        for place in chain[1:-1]:
            if not isinstance(place, str):
                columns[place[1]].append(place)
    return columns


def _neighbours(chains: Sequence[Sequence[Place]]) -> dict[Place, list[Place]]:
    found: dict[Place, list[Place]] = defaultdict(list)
    for chain in chains:
        for one, other in pairwise(chain):
            found[one].append(other)
            found[other].append(one)
    return found


def _order(columns: list[list[Place]], neighbours: Mapping[Place, list[Place]]) -> None:
    """Sort each column by the median place of its neighbours in the column before, to and fro."""
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        numbers = range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1)
        for number in numbers:
            beside = columns[number - 1 if forward else number + 1]
            rank = {place: index for index, place in enumerate(beside)}
            own = {place: index for index, place in enumerate(columns[number])}
            columns[number].sort(key=lambda place: _median(place, neighbours, rank, own))


def _median(
    place: Place, neighbours: Mapping[Place, list[Place]], rank: Mapping[Place, int], own: Mapping[Place, int]
) -> float:
    ranks = sorted(rank[other] for other in neighbours.get(place, ()) if other in rank)
    return ranks[len(ranks) // 2] if ranks else own[place]


def _pull(
    columns: Sequence[Sequence[Place]], neighbours: Mapping[Place, list[Place]], heights: Mapping[Place, float]
) -> dict[Place, float]:
    """The upper edge of every place: near its neighbours, in order, and never overlapping."""
    ys: dict[Place, float] = {}
    for column in columns:
        at = 0.0
        for place in column:
            ys[place] = at
            at += heights[place] + GAP_Y
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = [_wanted(place, neighbours, ys, heights) for place in column]
            _settle(column, wanted, ys, heights)
    top = min(ys.values(), default=0.0)
    return {place: y - top + MARGIN for place, y in ys.items()}


def _wanted(
    place: Place, neighbours: Mapping[Place, list[Place]], ys: Mapping[Place, float], heights: Mapping[Place, float]
) -> float:
    others = neighbours.get(place)
    if not others:
        return ys[place]
    middle = sum(ys[other] + heights[other] / 2 for other in others) / len(others)
    return middle - heights[place] / 2


def _settle(
    column: Sequence[Place], wanted: Sequence[float], ys: dict[Place, float], heights: Mapping[Place, float]
) -> None:
    """Give everybody the wanted place from above and from below, and take the middle of both."""
    down, floor = [], float("-inf")
    for place, want in zip(column, wanted, strict=True):
        down.append(max(want, floor))
        floor = down[-1] + heights[place] + GAP_Y
    up, ceiling = [], float("inf")
    for place, want in zip(reversed(column), reversed(wanted), strict=True):
        up.append(min(want, ceiling - heights[place] - GAP_Y))
        ceiling = up[-1]
    for place, low, high in zip(column, down, reversed(up), strict=True):
        ys[place] = (low + high) / 2


def _twins(edges: Sequence[tuple[str, str]], number: int) -> tuple[int, int]:
    """Which of how many arrows between the same two boxes this is."""
    same = [other for other, edge in enumerate(edges) if set(edge) == set(edges[number])]
    return same.index(number), len(same)


def _route(
    edge: tuple[str, str],
    chain: Sequence[Place],
    boxes: Mapping[str, Box],
    bends: Mapping[Place, Point],
    is_back: bool,
    twin: tuple[int, int],
) -> Route:
    source, target = boxes[edge[0]], boxes[edge[1]]
    index, count = twin
    shift = (index - (count - 1) / 2) * 12
    if edge[0] == edge[1]:
        return Route(points=_loop(source, index), is_back=True)
    rightward = source.x <= target.x
    start = (source.x + source.width if rightward else source.x, source.center[1] + shift)
    end = (target.x if rightward else target.x + target.width, target.center[1] + shift)
    inner = tuple(bends[place] for place in chain[1:-1])
    return Route(points=(start, *inner, end), is_back=is_back)


def _loop(box: Box, index: int) -> tuple[Point, ...]:
    top, reach = box.y, 14 + 8 * index
    right = box.x + box.width
    return ((right - 24, top), (right - 16, top - reach), (right - 2, top - reach), (right, top + box.height / 2 - 8))


def _framed(boxes: Mapping[str, Box], routes: tuple[Route, ...]) -> Layout:
    xs = [box.x + box.width for box in boxes.values()] + [x for route in routes for x, _ in route.points]
    ys = [box.y + box.height for box in boxes.values()] + [y for route in routes for _, y in route.points]
    return Layout(boxes=boxes, routes=routes, width=max(xs, default=0) + MARGIN, height=max(ys, default=0) + MARGIN)
