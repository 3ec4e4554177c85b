#!/usr/bin/env python3
"""Writes the tables in bench/README.md from bench/results.json, so that no number is copied by hand: python3 bench/tables.py"""

import json
import re
import statistics
from pathlib import Path

HERE = Path(__file__).resolve().parent


def shown(seconds):
    return f"{1e3 * seconds:,.2f} ms" if seconds < 0.1 else f"{seconds:,.2f} s"


def times(ratio):
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def table(rows):
    peers = list(dict.fromkeys(who for row in rows for who in row["median"]))
    lines = ["| | " + " | ".join(peers) + " |", "| --- |" + " ---: |" * len(peers)]
    for row in rows:
        cells = []
        for who in peers:
            median = row["median"].get(who)
            note = "" if median is None or who == peers[0] else f" ({row['ratio'][who]:.2f}×)" if who == row["floor"] else f" ({times(row['ratio'][who])})"
            cells.append("" if median is None else shown(median) + note)
        lines.append(f"| {row['what']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def stages(rows):
    lines = ["| | knockline | floor | resident |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        ours, floor = row["median"].values()
        lines.append(f"| {row['what']} | {shown(ours)} | {shown(floor)} ({row['ratio']['floor']:.2f}×) | {row['memory_mb']:.0f} MB |")
    return "\n".join(lines)


def growth(rows):
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    lines = ["| headlines | " + " | ".join(stages) + " |", "| ---: |" + " ---: |" * len(stages)]
    for size in dict.fromkeys(row["rows"] for row in rows):
        of = {row["stage"]: row for row in rows if row["rows"] == size}
        lines.append(f"| {size:,} | " + " | ".join(f"{of[s]['seconds']:.2f} s, {of[s]['private_mb']:.0f} MB" for s in stages) + " |")
    return "\n".join(lines)


def workers(rows):
    counts = list(dict.fromkeys(row["workers"] for row in rows))
    lines = ["| | " + " | ".join(f"{count} worker{'s' if count > 1 else ''}" for count in counts) + " |", "| --- |" + " ---: |" * len(counts)]
    for net in dict.fromkeys(row["net"] for row in rows):
        cells = []
        for row in (row for row in rows if row["net"] == net):
            test = row["spread"]["test"]
            cells.append(f"{test['mean']:.4f} ± {test['deviation']:.4f}, {row['epochs']:.0f} epochs")
        lines.append(f"| {net} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def classifiers(rows):
    whats = list(dict.fromkeys(row["what"] for row in rows))
    lines = ["| | " + " | ".join(whats) + " |", "| --- |" + " ---: |" * len(whats)]
    for who in dict.fromkeys(row["who"] for row in rows):
        cells = []
        for what in whats:
            row = next(row for row in rows if row["what"] == what and row["who"] == who)
            spread = f" ± {row['deviation']:.4f}" if row["deviation"] is not None else ""
            cells.append(f"{row['mean']:.4f}{spread}, {row['median']:.2f} s")
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def losses(rows):
    lines = ["| | learning rate | largest relative difference |", "| --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {row['what']} | {row['rate']:.2g} | {row['difference']:.1e} |" for row in rows])


def memory(rows):
    peers = [who for who in rows[0] if who != "what"]
    lines = ["| E | " + " | ".join(peers) + " |", "| --- |" + " ---: |" * len(peers)]
    return "\n".join(lines + [f"| {row['what']} | " + " | ".join(f"{row[who]:,.0f} MB" for who in peers) + " |" for row in rows])


def dev(rows):
    spread = lambda all: f"{statistics.mean(all):.4f} ± {statistics.stdev(all):.4f}"
    lines = ["| | knockline | PyTorch |", "| --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {row['what']} | {spread(row['knockline'])} | {spread(row['PyTorch'])} |" for row in rows])


def serve(rows):
    lines = ["| server | connections | requests a second | p50 | p99 | p99.9 |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    before = None
    for row in rows:
        who = "" if row["who"] == before else row["who"]
        before = row["who"]
        lines.append(f"| {who} | {row['connections']} | {row['rate']:,.0f} | {row['p50']:,.2f} ms | {row['p99']:,.1f} ms | {row['p999']:,.1f} ms |")
    return "\n".join(lines)


def soak(rows):
    lines = ["| minutes | resident |", "| ---: | ---: |"]
    steps = [rows[0], *(min(rows, key=lambda row: abs(row["minute"] - minute)) for minute in (1, 2, 5)), rows[-1]]
    return "\n".join(lines + [f"| {row['minute'] + 1 / 6:.1f} | {row['mb']:.1f} MB |" for row in steps])


def model(rows):
    lines = ["| model | size | start to answer | accuracy on test |", "| --- | ---: | ---: | ---: |"]
    return "\n".join(lines + [f"| {row['what']} | {row['mb']:.1f} MB | {1e3 * row['start']:,.0f} ms | {row['accuracy']:.4f} |" for row in rows])


def between(text, name, made):
    """Replaces the text between the comments `name` and `end`."""
    return re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{made}\n{m[2]}", text, count=1, flags=re.DOTALL)


def main():
    results = json.loads((HERE / "results.json").read_text())
    text = (HERE / "README.md").read_text()
    for name, result in results.items():
        made = {"growth": growth, "stages": stages, "classifiers": classifiers, "losses": losses, "dev": dev, "memory": memory, "serve": serve, "soak": soak, "model": model, "workers": workers}.get(name, table)(result["rows"])
        text = between(text, name, made)
    about = next(iter(results.values()))["about"]
    peers = ", ".join(f"{name} {version}" for name, version in about["peers"].items() if name != "matplotlib")
    machine = f"{about['processors']} cores of an {about['processor']}{' with AVX-512' if about['avx512'] else ''}, {about['system']}, Python {about['python']}; {peers}."
    (HERE / "README.md").write_text(between(text, "machine", machine))


if __name__ == "__main__":
    main()
