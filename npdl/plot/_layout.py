"""Layered layout of a directed graph: nodes in rows, so that every edge goes down.

The row of a node is the length of the longest path to it. An edge over several rows gets a lane in
each row between, so it never crosses a node. Sweeps down and up sort each row by the mean position
of the neighbours. Then nodes and lanes move toward their neighbours, without overlaps.

Sugiyama, Tagawa, Toda: Methods for visual understanding of hierarchical system structures, 1981.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Edge", "Point", "layered"]

Point = tuple[float, float]

_LANE, _APART, _ROW_GAP = 10.0, 16.0, 22.0
_SORTED, _SWEEPS = 3, 60  # sweeps that sort the rows, and all sweeps


class Edge(NamedTuple):
    """An edge between nodes; offsets of its ends to the right of the nodes' middles."""

    source: int
    leave: float
    target: int
    arrive: float


def layered(
    sizes: Sequence[Point], edges: Sequence[Edge], inputs: int, outputs: int
) -> tuple[list[float], list[float], list[list[Point]], Point]:
    """Return the middles and tops of nodes, the points of each edge, and the size of the drawing.

    Sizes are (width, height). Each edge leads to a later node, and the edges are in the order of
    their targets. The first row has the inputs alone, the last row the outputs alone.
    """
    nodes, inner, sizes = range(len(sizes)), len(sizes) - outputs, [*sizes]
    ranks = [0] * inputs + [1] * (len(sizes) - inputs)
    for edge in edges:
        ranks[edge.target] = max(ranks[edge.target], ranks[edge.source] + 1)
    ranks[inner:] = [max(ranks[:inner]) + 1] * outputs
    chains = []
    for source, leave, target, arrive in edges:
        between = range(ranks[source] + 1, ranks[target])
        lanes = [(len(ranks) + i, 0.0) for i in range(len(between))]
        chains.append([(source, leave), *lanes, (target, arrive)])
        sizes += [(_LANE, 0.0)] * len(between)
        ranks += between
    rows = [[i for i, row in enumerate(ranks) if row == rank] for rank in range(max(ranks) + 1)]

    widths, heights = zip(*sizes, strict=True)
    x = _positions(rows, widths, chains)
    left = min(middle - width / 2 for middle, width in zip(x, widths, strict=True))
    right = max(middle + width / 2 for middle, width in zip(x, widths, strict=True))
    x = [middle - left for middle in x]
    deep = [max((heights[node] for node in row), default=0.0) for row in rows]
    spans = [(y := sum(deep[:i]) + i * _ROW_GAP, y + deep[i]) for i in range(len(rows))]
    top = [(sum(spans[ranks[node]]) - heights[node]) / 2 for node in nodes]
    paths = []
    for chain in chains:
        path = [(x[node] + shift, y) for node, shift in chain for y in spans[ranks[node]]]
        path[0] = path[0][0], top[chain[0][0]] + heights[chain[0][0]]
        path[-1] = path[-1][0], top[chain[-1][0]]
        paths.append(path)
    return x[: len(nodes)], top, paths, (right - left, spans[-1][1])


def _positions(
    rows: list[list[int]], widths: Sequence[float], chains: list[list[tuple[int, float]]]
) -> list[float]:
    """Return the middle of each node and lane, the mean of its neighbours; sort the rows."""
    near: list[list[list[tuple[int, float, float]]]] = [[[] for _ in widths] for _ in range(2)]
    for chain in chains:
        for i, ((a, leave), (b, arrive)) in enumerate(itertools.pairwise(chain)):
            # Straightness has weights: edges to the next row first, then the lanes of long edges.
            weight = (1e3, 1.0, 1e5)[(i == 0) + (i == len(chain) - 2)]
            near[0][b].append((a, leave - arrive, weight))
            near[1][a].append((b, arrive - leave, weight))
    x = [0.0] * len(widths)
    for sweep in range(_SWEEPS):  # down and up; only the later ones use both neighbours
        up = sweep % 2
        for row in rows[::-1] if up else rows:
            wanted = {}
            for node in row:
                pulls = near[up][node] + (near[1 - up][node] if sweep >= _SORTED else [])
                total = sum(weight for _, _, weight in pulls)
                mean = sum((x[other] + shift) * weight for other, shift, weight in pulls)
                wanted[node] = (mean / total, total) if pulls else (x[node], 0.01)
            if sweep < _SORTED:
                row.sort(key=lambda node: round(wanted[node][0], 3))
            gaps = [(widths[a] + widths[b]) / 2 + _APART for a, b in itertools.pairwise(row)]
            for node, middle in zip(row, _with_gaps([wanted[i] for i in row], gaps), strict=True):
                x[node] = middle
    return x


def _with_gaps(wanted: list[tuple[float, float]], gaps: list[float]) -> list[float]:
    """Return the positions nearest to (position, weight), by least squares, with minimum gaps.

    Without the gaps, positions must not decrease (isotonic regression): decreasing blocks are
    replaced by their mean.
    """
    before = [0.0, *itertools.accumulate(gaps)]
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count
    for (middle, weight), shift in zip(wanted, before, strict=True):
        block = (middle - shift, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, other, count = blocks.pop()
            total = other + block[1]
            block = ((mean * other + block[0] * block[1]) / total, total, count + block[2])
        blocks.append(block)
    level = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + shift for mean, shift in zip(level, before, strict=True)]
