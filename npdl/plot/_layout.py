"""Layered layout of a directed graph: nodes in rows, so that every edge goes down.

The row of a node is the length of the longest path to it. An edge over several rows gets a lane in
each row between, so it never crosses a node. Sweeps down and up sort each row by the mean position
of the neighbours. The order with the fewest crossings is kept. Then nodes and lanes move toward
their neighbours, without overlaps.

Sugiyama, Tagawa, Toda: Methods for visual understanding of hierarchical system structures, 1981.
"""

import itertools
from collections.abc import Callable, Sequence

import attrs
import numpy as np

__all__ = ["Edge", "Layout", "layered"]

_LANE = 10.0
_APART = 16.0
_ROW_GAP = 22.0
_SWEEPS = 12


@attrs.frozen
class Edge:
    """An edge between nodes; offsets of its ends to the right of the nodes' middles."""

    source: int
    target: int
    source_offset: float = 0.0
    target_offset: float = 0.0


@attrs.frozen
class Layout:
    """The middle x of each node, its top, its row, and the lanes of each edge.

    A row is (top, bottom), a lane (x, top, bottom). `y` grows downward from 0, and `x` to the right
    from 0. Only edges lie between rows. The nodes of a row may have different heights.
    """

    x: list[float]
    top: list[float]
    rows: list[tuple[float, float]]
    lanes: list[list[tuple[float, float, float]]]
    width: float
    height: float


@attrs.frozen
class _Link:
    """A segment of an edge, from one row to the next."""

    above: int
    below: int
    above_offset: float
    below_offset: float
    weight: float


def layered(
    widths: Sequence[float], heights: Sequence[float], edges: Sequence[Edge], last: Sequence[int]
) -> Layout:
    """Return the layout of nodes in topological order.

    Parameters
    ----------
    widths, heights : sequences of float
        The sizes of the nodes.
    edges : sequence of Edge
        The edges.
    last : sequence of int
        Nodes of the last row.
    """
    ranks = _ranks(len(widths), edges, last)
    sizes = [*map(float, widths)]
    links: list[_Link] = []
    lanes: list[list[int]] = []
    for edge in edges:
        between = range(ranks[edge.source] + 1, ranks[edge.target])
        through = list(range(len(sizes), len(sizes) + len(between)))
        sizes += [_LANE] * len(through)
        ranks += between
        lanes.append(through)
        chain = [edge.source, *through, edge.target]
        for i, (above, below) in enumerate(itertools.pairwise(chain)):
            is_first, is_last = i == 0, i == len(chain) - 2
            # Straightness has weights: chains of nodes first, then the middles of long edges.
            weight = 1e4 if is_first and is_last else 1.0 if is_first or is_last else 100.0
            offsets = edge.source_offset * is_first, edge.target_offset * is_last
            links.append(_Link(above, below, *offsets, weight))
    rows = _ordered(ranks, links)
    x = _positions(rows, sizes, links)

    tops, bottoms, y = [], [], 0.0
    for row in rows:
        height = max((heights[node] for node in row if node < len(widths)), default=0.0)
        tops.append(y)
        bottoms.append(y + height)
        y += height + _ROW_GAP
    left = min(x[node] - sizes[node] / 2 for node in range(len(sizes)))
    right = max(x[node] + sizes[node] / 2 for node in range(len(sizes)))
    return Layout(
        [x[node] - left for node in range(len(widths))],
        # Nodes are centred vertically in their row.
        [
            (tops[ranks[node]] + bottoms[ranks[node]] - heights[node]) / 2
            for node in range(len(widths))
        ],
        [(tops[ranks[node]], bottoms[ranks[node]]) for node in range(len(widths))],
        [[(x[lane] - left, tops[ranks[lane]], bottoms[ranks[lane]]) for lane in e] for e in lanes],
        right - left,
        bottoms[-1],
    )


def _ranks(count: int, edges: Sequence[Edge], last: Sequence[int]) -> list[int]:
    ranks = [0] * count
    for edge in sorted(edges, key=lambda edge: edge.target):
        ranks[edge.target] = max(ranks[edge.target], ranks[edge.source] + 1)
    for node in last:
        ranks[node] = max(ranks)
    return ranks


def _ordered(ranks: list[int], links: Sequence[_Link]) -> list[list[int]]:
    """Return the nodes of each row from left to right."""
    rows: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
    for node, rank in enumerate(ranks):
        rows[rank].append(node)
    above, below = _neighbours(len(ranks), links)
    best, fewest = rows, _crossings(rows, links)
    for sweep in range(_SWEEPS):
        rows = [list(row) for row in rows]
        position = {node: i for row in rows for i, node in enumerate(row)}
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            row.sort(key=_mean_position(position, neighbours))
            position |= {node: i for i, node in enumerate(row)}
        if (crossings := _crossings(rows, links)) < fewest:
            best, fewest = rows, crossings
    return best


def _mean_position(
    position: dict[int, int], neighbours: list[list[tuple[int, float, float]]]
) -> Callable[[int], float]:
    def mean(node: int) -> float:
        found = [position[other] for other, _, _ in neighbours[node]]
        return sum(found) / len(found) if found else float(position[node])

    return mean


def _crossings(rows: Sequence[Sequence[int]], links: Sequence[_Link]) -> int:
    position = {node: (rank, i) for rank, row in enumerate(rows) for i, node in enumerate(row)}
    ends: dict[int, list[tuple[float, float]]] = {}
    for link in links:
        rank, i = position[link.above]
        # Edges that leave a frame at different points can cross too.
        ends.setdefault(rank, []).append(
            (i + 1e-4 * link.above_offset, position[link.below][1] + 1e-4 * link.below_offset)
        )
    return sum(
        (a[0] - b[0]) * (a[1] - b[1]) < 0
        for found in ends.values()
        for a, b in itertools.combinations(found, 2)
    )


def _neighbours(count: int, links: Sequence[_Link]) -> tuple[list, list]:  # type: ignore[type-arg]
    """Return the neighbours above and below each node: (node, offset to the right, weight)."""
    above: list[list[tuple[int, float, float]]] = [[] for _ in range(count)]
    below: list[list[tuple[int, float, float]]] = [[] for _ in range(count)]
    for link in links:
        shift = link.above_offset - link.below_offset
        above[link.below].append((link.above, shift, link.weight))
        below[link.above].append((link.below, -shift, link.weight))
    return above, below


def _positions(
    rows: Sequence[Sequence[int]], sizes: Sequence[float], links: Sequence[_Link]
) -> dict[int, float]:
    """Return the middle x of each node."""
    above, below = _neighbours(len(sizes), links)
    x: dict[int, float] = {}
    gaps = []
    for row in rows:
        gap = [(sizes[a] + sizes[b]) / 2 + _APART for a, b in itertools.pairwise(row)]
        positions = np.cumsum([0.0, *gap])
        x |= dict(zip(row, positions - positions.mean(), strict=True))
        gaps.append(gap)
    for sweep in range(2 * _SWEEPS):
        # The last sweeps use both neighbours, so that the layout converges.
        both = sweep >= _SWEEPS
        down = sweep % 2 == 0
        for row, gap in list(zip(rows, gaps, strict=True))[:: 1 if down else -1]:
            wanted, weights = [], []
            for node in row:
                near = above[node] + below[node] if both else (above if down else below)[node]
                total = sum(weight for _, _, weight in near)
                wanted.append(
                    sum((x[other] + shift) * weight for other, shift, weight in near) / total
                    if near
                    else x[node]
                )
                weights.append(total or 0.01)
            x |= dict(zip(row, _with_gaps(wanted, weights, gap), strict=True))
    return x


def _with_gaps(wanted: list[float], weights: list[float], gaps: list[float]) -> list[float]:
    """Return the positions nearest to `wanted`, by weighted least squares, with minimum gaps.

    Without the gaps, positions must not decrease (isotonic regression): decreasing blocks are
    replaced by their mean.
    """
    before = np.cumsum([0.0, *gaps]).tolist()
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count
    for position, weight, shift in zip(wanted, weights, before, strict=True):
        block = (position - shift, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, other, count = blocks.pop()
            total = other + block[1]
            block = ((mean * other + block[0] * block[1]) / total, total, count + block[2])
        blocks.append(block)
    level = [mean for mean, _, count in blocks for _ in range(count)]
    return [position + shift for position, shift in zip(level, before, strict=True)]
