#!/usr/bin/env python3
"""An epoch of both nets beside PyTorch's and candle's, on the features that a pipeline has made.

    cargo xtask pipeline --to tensors                 # or with real data: see the README
    python3 bench/train.py [--artifacts artifacts] [--rounds 5]

Prints tables and writes bench/train.json. PyTorch comes from PyPI into a virtual environment below target/. The peers take
turns; a figure is the median of the rounds. An epoch is training alone, without evaluation; rows are shuffled every
epoch by knockline and by PyTorch's DataLoader, and taken as they lie by PyTorch's slices, its best case."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / "target" / "bench-torch"
BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=lambda p: Path(p).resolve(), default=ROOT / "artifacts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    try:
        import safetensors.torch
        import torch
    except ImportError:
        python = VENV / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "numpy", "safetensors"], check=True)
        if Path(sys.executable) != python:
            os.execv(python, [python, *sys.argv])
        raise
    from torch import nn

    subprocess.run(["cargo", "build", "--quiet", "--package", "train"], cwd=ROOT, check=True)
    train = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "train"
    data = safetensors.torch.load_file(given.artifacts / "tensors" / "train.safetensors")
    X, y = data["X"], data["y"]
    n, d = X.shape
    torch.set_num_threads(given.threads)

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.fc_mid, self.fc_out, self.bn = nn.Linear(d, 200), nn.Linear(200, 200), nn.Linear(200, 4), nn.BatchNorm1d(200)

        def forward(self, x):
            x = torch.relu(self.fc(x))
            x = torch.relu(self.bn(self.fc_mid(x)))
            return torch.relu(self.fc_out(x))

    def pytorch(make, rate, batch, loader):
        net = make()
        optimizer, loss = torch.optim.SGD(net.parameters(), lr=rate), nn.CrossEntropyLoss()
        rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=batch, shuffle=True) if loader else (
            (X[i : i + batch], y[i : i + batch]) for i in range(0, n, batch))
        start = time.perf_counter()
        for inputs, labels in rows:
            optimizer.zero_grad()
            loss(net(inputs), labels).backward()
            optimizer.step()
        return time.perf_counter() - start

    def stage(node, *sets, threads=1):
        with tempfile.TemporaryDirectory() as out:
            command = [train, "--node", node, "--artifacts", given.artifacts, "--out", out, *(x for s in sets for x in ("--set", s))]
            subprocess.run([str(c) for c in command], check=True, capture_output=True, env={**os.environ, "RAYON_NUM_THREADS": str(threads)})
            name = "sweep.jsonl" if node == "train.sweep" else "timings.jsonl"
            return [json.loads(line) for line in (Path(out) / name).read_text().splitlines()]

    def slp():
        return nn.Linear(d, 4, bias=False)

    sizes = json.dumps(BATCHES)
    times = {}

    def note(net, batch, who, seconds):
        times.setdefault((net, batch), {}).setdefault(who, []).append(seconds)

    for turn in range(given.rounds):
        print(f"round {turn + 1} of {given.rounds}", file=sys.stderr)
        for row in stage("train.sweep", f"batch_sizes={sizes}", "repeats=5"):
            note("single", row["batch_size"], "knockline", row["seconds"])
        for row in stage("train.sweep", f"batch_sizes={sizes}", "repeats=1", "kernel=autograd"):
            note("single", row["batch_size"], "candle", row["seconds"])
        for batch in BATCHES:
            note("single", batch, "slices", pytorch(slp, 0.1, batch, False))
            note("single", batch, "loader", pytorch(slp, 0.1, batch, True))
        note("multi", 64, "knockline", statistics.median(row["seconds"] for row in stage("train.mlp", "epochs=5")))
        note("multi", 64, "candle", statistics.median(row["seconds"] for row in stage("train.mlp", "epochs=3", "kernel=autograd")))
        for loader, who in ((False, "slices"), (True, "loader")):
            note("multi", 64, who, pytorch(Mlp, 1e-3, 64, loader))

    rows = []
    for (net, batch), by in times.items():
        median = {who: statistics.median(seconds) for who, seconds in by.items()}
        ours = median["knockline"]
        rows.append({"net": net, "batch_size": batch, "seconds": by, "ratio": {who: m / ours for who, m in median.items() if who != "knockline"}})
        print(f"{net:<7} {batch:>5} {1e3 * ours:>9.2f} ms", *(f"{who} {1e3 * median[who]:>9.1f} ms {median[who] / ours:>7.1f}×" for who in ("loader", "slices", "candle")))
    flags = next((line.split(":", 1)[1].split() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), []) if Path("/proc/cpuinfo").exists() else []
    about = {"rows": n, "features": d, "torch": torch.__version__, "torch_threads": given.threads, "python": platform.python_version(),
             "processors": os.cpu_count(), "avx512": "avx512f" in flags}
    (ROOT / "bench" / "train.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
