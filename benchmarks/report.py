"""Make the tables and the chart of docs/benchmarks.md from the files of benchmarks/results.

It replaces the content between ``<!-- name -->`` and ``<!-- end -->``, and keeps the rest of the
page.

    python benchmarks/report.py
"""

import json
import math
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
CHART = ROOT / "docs" / "images" / "benchmarks.svg"
PEERS = ("torch", "jax", "sklearn")
NAMES = {
    "npdl": "npdl",
    "npdl_ranks": "npdl, 2 ranks",
    "npdl_pure": "npdl, pure",
    "compat": "npdl.compat",
    "torch": "PyTorch",
    "jax": "JAX",
    "jax_ahead": "JAX, ahead",
    "sklearn": "scikit-learn",
    "floor": "floor",
    "copy": "copy",
}

MARKS = (
    ("torch", "o", "#ee4c2c"),
    ("jax", "s", "#3c8c5a"),
    ("sklearn", "^", "#c58b00"),
    ("floor", "|", "black"),
)


def table(heads, rows, align="---:"):
    """Return a Markdown table; `align` is the alignment of all columns after the first."""
    lines = [heads, ["---", *[align] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(values):
    """Return the median and the spread as a string."""
    median, low, high = (
        f"{x:.3g}" if x < 1000 else f"{x:,.0f}" for x in map(values.get, ("median", "low", "high"))
    )
    return f"{median} ({low}–{high})"


def best_peer(row):
    """Return the fastest other library of a row, and its median."""
    return min((row[library]["median"], library) for library in PEERS if library in row)[::-1]


def by_library(results, ratios):
    """Return a table with one row per workload, one column per library, and ratios."""
    libraries = [name for name in NAMES if any(name in row for row in results.values())]
    rows = [
        [name, *(shown(row[library]) if library in row else "" for library in libraries)]
        + ["" if math.isnan(found := ratio(row)) else f"{found:.2f}" for ratio in ratios.values()]
        for name, row in results.items()
    ]
    return table(["", *(NAMES[library] for library in libraries), *ratios], rows)


def fastest(row):
    """Return the median of npdl's faster form: one process, or two ranks."""
    return min(row[form]["median"] for form in ("npdl", "npdl_ranks") if form in row)


def against(library):
    return lambda row: fastest(row) / row[library]["median"]


def against_best(row):
    return fastest(row) / best_peer(row)[1]


def agreement(results):
    columns = list(dict.fromkeys(library for row in results.values() for library in row))
    rows = [
        [name, *(f"{row[library]:.0e}" if library in row else "" for library in columns)]
        for name, row in results.items()
    ]
    return table(["", *(NAMES[library] for library in columns)], rows)


def training_steps(results):
    ratios = {
        "to the best peer": against_best,
        "to JAX, ahead": against("jax_ahead"),
        "to the floor": against("floor"),
    }
    return by_library(results, ratios)


def adam(results):
    return by_library(results, {"to the best peer": against_best, "to the copy": against("copy")})


def latency(results):
    return by_library(results, {"to the best peer": against_best})


def step_memory(results):
    def ratio(row):
        # Smaller values depend on the size of memory pages.
        return against("torch")(row) if row["torch"]["median"] >= 1 else math.nan

    return by_library(results, {"to PyTorch": ratio})


def cold_start(results):
    rows = [
        [NAMES[library], shown(row["import"]), shown(row["first_step"])]
        for library, row in results["mlp_small"].items()
    ]
    return table(["ms after `import numpy`", "imported", "first step done"], rows)


def growth(results):
    rows = [
        [
            name,
            f"{row['sizes'][0]} to {row['sizes'][-1]}",
            *(
                f"{row[values][0]:.3g} to {row[values][-1]:.3g}"
                for values in ("milliseconds", "mebibytes")
            ),
            *(f"{exponent:.2f}" for exponent in row["exponents"].values()),
        ]
        for name, row in results.items()
    ]
    return table(["", "sizes", "ms", "MiB", "exponent of time", "of memory"], rows)


def machine(results):
    return table(["", ""], list(results.items()), align="---")


def overview(processors):
    """Return the ratio to the best peer for each workload and processor."""
    found = {name: results["training_steps"] for name, results in processors.items()}
    workloads = dict.fromkeys(workload for rows in found.values() for workload in rows)
    rows = [
        [
            each,
            *(f"{against_best(rows[each]):.2f}" if each in rows else "" for rows in found.values()),
        ]
        for each in workloads
    ]
    return table(["", *found], rows)


TABLES = {
    "agreement": agreement,
    "training_steps": training_steps,
    "adam": adam,
    "cold_start": cold_start,
    "latency": latency,
    "step_memory": step_memory,
    "growth": growth,
}


def draw(processors):
    """Draw the times of npdl, of the peers and of the floor, divided by the best peer's time."""
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "npdl"})
    figure, panels = plt.subplots(
        len(processors), squeeze=False, figsize=(8, 4.5 * len(processors)), layout="constrained"
    )
    for axes, (name, results) in zip(panels[:, 0], processors.items(), strict=True):
        handles = draw_panel(axes, results["training_steps"])
        axes.set_title(name, fontsize="medium")
    axes.set_xlabel("time of a training step, divided by the best peer's time; less is faster")
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=5, frameon=False)
    CHART.parent.mkdir(exist_ok=True)
    figure.savefig(CHART, metadata={"Date": None})
    plt.close(figure)


def draw_panel(axes, rows):
    """Draw one processor's times, and return the handles of the legend."""
    ratios = {name: against_best(row) for name, row in rows.items()}
    labels = [f"{name}   {ratio:.2f}" for name, ratio in ratios.items()]
    lengths = [ratio - 1 for ratio in ratios.values()]
    handles = {"npdl": axes.barh(labels, lengths, left=1, height=0.5, color="#7fa8d1")}
    for library, marker, color in MARKS:
        points = [
            (row[library]["median"] / best_peer(row)[1], label)
            for label, row in zip(labels, rows.values(), strict=True)
            if library in row
        ]
        handles[NAMES[library]] = axes.scatter(
            *zip(*points, strict=True), marker=marker, color=color, s=42, zorder=3
        )
    axes.axvline(1, color="black", linewidth=1, zorder=2)
    axes.set(xscale="log")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], minor=False)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return handles


def main():
    """Replace the tables of the page, and the chart."""
    processors = {}
    for path in sorted(RESULTS.glob("*.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        processors[results["machine"]["name"]] = results
    steps = {name: found for name, found in processors.items() if "training_steps" in found}
    page = PAGE.read_text(encoding="utf-8")
    if steps:
        draw(steps)
        page = replaced(page, "overview", overview(steps))
    for section, make in {"machine": machine, **TABLES}.items():
        parts = [
            f"**{name}**\n\n{make(results[section])}"
            for name, results in processors.items()
            if section in results
        ]
        page = replaced(page, section, "\n\n".join(parts))
    PAGE.write_text(page, encoding="utf-8")


def replaced(page, name, content):
    """Return the page with other content after the comment with a name."""
    before, mark, rest = page.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    return f"{before}{mark}\n{content}\n\n{end}{after}"


if __name__ == "__main__":
    main()
