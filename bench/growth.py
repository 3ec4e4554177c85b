"""Time and memory of every stage for growing numbers of generated headlines, and a chart of both (growth.svg, beside the results).

Memory is the peak of a process's private memory. It does not include mapped files, whose pages the system reclaims when it needs
them. The training nodes run for one epoch."""

import shutil
import sys
from pathlib import Path

SIZES = [10_000, 100_000, 1_000_000, 10_000_000]
STAGES = ["ingest", "split", "embed", "tensors", "train.slp", "train.mlp"]


def run(bench, node, folder, *sets):
    sets = [f"net={node.removeprefix('train.')}", *sets] if node.startswith("train.") else sets
    command = [bench.target / node.split(".")[0], "--node", node, "--artifacts", folder, "--out", folder / node, *(x for s in sets for x in ("--set", s))]
    return bench.watch(command, "RssAnon", {"RAYON_NUM_THREADS": "1"})


def growth(bench):
    rows = []
    for size in [size for size in SIZES if size <= bench.given.most]:
        folder = bench.artifacts.parent / f"growth-{size}"
        shutil.rmtree(folder, ignore_errors=True)
        for node in STAGES:
            sets = {"ingest": [f"source=sample:{size}", 'publishers=["*"]']}.get(node, ["epochs=1"] if node.startswith("train") else [])
            print(f"growth: {size:,} headlines, {node}          ", end="\r", file=sys.stderr)
            seconds, peak = run(bench, node, folder, *sets)
            rows.append({"rows": size, "stage": node, "seconds": seconds, "private_mb": peak})
        shutil.rmtree(folder)
        mine = [row for row in rows if row["rows"] == size]
        print(f"{size:>10,} headlines  ", "; ".join(f"{r['stage']} {r['seconds']:.2f} s {r['private_mb']:.0f} MB" for r in mine), flush=True)
    bench.results["growth"] = rows
    draw(rows, (Path(__file__).parent if bench.given.publish else bench.artifacts.parent) / "growth.svg")


def draw(rows, file):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "knockline", "font.size": 9})
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for axis, what, label in zip(axes, ("seconds", "private_mb"), ("seconds", "private memory at its peak, MB")):
        for stage in STAGES:
            mine = [row for row in rows if row["stage"] == stage]
            axis.loglog([row["rows"] for row in mine], [row[what] for row in mine], marker="o", markersize=3, linewidth=1.2, label=stage)
        axis.set_xlabel("headlines")
        axis.set_title(label, loc="left", fontsize=9)
        axis.grid(True, which="major", linewidth=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
