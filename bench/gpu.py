#!/usr/bin/env python3
"""Problem 78 on a GPU: compares knockline with PyTorch, checks knockline's results, and prints a table.

    python3 bench/gpu.py --host user@machine [--program target/x86_64-unknown-linux-gnu/debug/train] [--artifacts artifacts]
    python3 bench/gpu.py                                   on the machine with the GPU

With --host, it copies the program and the features to that machine, runs there, and copies the results back. The program has to be
built with the feature `cuda`. The machine needs NVIDIA's driver, CUDA's libraries for the program to open, and Python with torch
(whose wheels contain those libraries), numpy and safetensors. It times and checks:

  sweep    an epoch of the single-layer net with batch sizes 1 to 1024: knockline on the CPU and the GPU, PyTorch on the GPU as the
           exercise's answers use it ("published"), and PyTorch on the GPU with CUDA graphs of up to 256 steps on slices in the GPU's
           memory. As in the answers, the published figure includes shuffling and copies to the GPU; knockline shuffles its rows
           before its clock starts
  multi    an epoch of the multi-layer net with batch size 64, in the same way
  agree    over 5 epochs from the same weights, the losses on both devices differ by at most 1e-4, relatively
  repeat   a run repeated on the same GPU has the same bits

The exit status is 1 if a check fails. All times are written to OUT/gpu.json. From OUT/train.sweep, the command
`report --input train.sweep OUT/train.sweep` makes the table and the chart of problem 78."""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
HERE = Path(__file__).resolve()
# The parts whose tensors are copied to the machine.
PARTS = ["train", "valid", "test"]
TOLERANCE = 1e-4


def libraries():
    """The folders of CUDA's libraries that came with PyTorch, which the program opens."""
    try:
        import nvidia
    except ImportError:
        return []
    return sorted({str(path.parent) for root in nvidia.__path__ for path in Path(root).rglob("lib*.so*") if "stubs" not in path.parts})


class Machine:
    def __init__(self, given):
        self.given = given
        self.out = Path(given.out)
        self.failures = []
        found = [os.environ.get("LD_LIBRARY_PATH", ""), *libraries(), "/usr/local/cuda/lib64"]
        self.environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, found))}

    def train(self, node, device, out, *sets):
        command = [self.given.program, "--node", node, "--artifacts", self.given.artifacts, "--out", out, "--device", device]
        net = [] if node == "train.sweep" else [f"net={node.removeprefix('train.')}"]
        command += [x for s in [*net, *sets] for x in ("--set", s)]
        done = subprocess.run(list(map(str, command)), env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return Path(out)

    def check(self, what, holds, seen):
        print(f"{'ok  ' if holds else 'FAIL'} {what}: {seen}", flush=True)
        if not holds:
            self.failures.append(what)


def lines(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def nets():
    # The same nets as in the benchmarks on the CPU.
    from epochs import Mlp, slp
    return {"single": slp, "multi": Mlp}


def published(torch, net, rate, X, y, batch):
    """Trains for an epoch as the answers do, with a shuffling DataLoader and a copy of each batch to the device; returns its seconds."""
    rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=batch, shuffle=True)
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=rate), torch.nn.CrossEntropyLoss()
    net.train()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for inputs, labels in rows:
        inputs, labels = inputs.cuda(), labels.cuda()
        optimizer.zero_grad()
        loss(net(inputs), labels).backward()
        optimizer.step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def graphs(torch, net, rate, X, y, batch):
    """Trains for an epoch whose steps are captured in CUDA graphs, on rows that are on the GPU and never shuffled; returns its seconds."""
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=rate), torch.nn.CrossEntropyLoss()
    net.train()

    def step(at):
        optimizer.zero_grad(set_to_none=True)
        loss(net(X[at : at + batch]), y[at : at + batch]).backward()
        optimizer.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(0)
    torch.cuda.current_stream().wait_stream(side)
    starts = list(range(0, len(y), batch))
    all = []
    for first in range(0, len(starts), 256):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for at in starts[first : first + 256]:
                step(at)
        all.append(graph)
    for graph in all:
        graph.replay()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for graph in all:
        graph.replay()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def shown(seconds):
    return f"{1e3 * seconds:.2f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def table(rows):
    who = ["knockline, GPU", "knockline, CPU", "PyTorch, published", "PyTorch, graphs"]
    print("\n| | " + " | ".join(who) + " |\n| --- |" + " ---: |" * len(who))
    for what, times in rows.items():
        ours = times[who[0]]
        cells = [shown(times[w]) + ("" if w == who[0] else f" ({times[w] / ours:.1f}×)") if w in times else "" for w in who]
        print(f"| {what} | " + " | ".join(cells) + " |")
    print(flush=True)


def ready():
    """Exits with a message if something is missing, before anything that takes long."""
    try:
        import safetensors.torch
        import torch
    except ImportError as missing:
        sys.exit(f"error: {missing}; install torch, numpy and safetensors")
    if not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no GPU here; give --host, or install PyTorch with CUDA")


def times(machine):
    import safetensors.torch
    import torch
    given, rounds = machine.given, machine.given.rounds
    arrays = safetensors.torch.load_file(Path(given.artifacts) / "tensors" / "train.safetensors")
    X, y = arrays["X"], arrays["y"]
    on_gpu = X.cuda(), y.cuda()
    kinds, d = nets(), X.shape[1]
    about = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": list(X.shape)}
    print(f"{about['gpu']}, PyTorch {about['torch']}, {X.shape[0]} × {d}")
    median = statistics.median
    rows = {}
    sweep = machine.train("train.sweep", "cuda", machine.out / "train.sweep", 'devices=["cpu","cuda"]', f"batch_sizes={json.dumps(BATCHES)}", f"repeats={rounds}")
    for row in lines(sweep / "sweep.jsonl"):
        rows.setdefault(f"single-layer, batch {row['batch_size']}", {})[f"knockline, {'GPU' if row['device'] == 'cuda' else 'CPU'}"] = row["seconds"]
        if row["device"] == "cuda":
            machine.check(f"batch {row['batch_size']} is one launch an epoch", row["kernel"] == "fused", row["kernel"])
    for batch in BATCHES:
        mine = rows[f"single-layer, batch {batch}"]
        # The first steps load PyTorch's kernels. Small batches take seconds per round, so they run fewer rounds.
        published(torch, kinds["single"](d).cuda(), 0.1, X[: 8 * batch], y[: 8 * batch], batch)
        mine["PyTorch, published"] = median(published(torch, kinds["single"](d).cuda(), 0.1, X, y, batch) for _ in range(min(3, rounds) if batch < 8 else rounds))
        mine["PyTorch, graphs"] = median(graphs(torch, kinds["single"](d).cuda(), 0.1, *on_gpu, batch) for _ in range(rounds))
    mine = rows["multi-layer, batch 64"] = {}
    for device, who in (("cuda", "knockline, GPU"), ("cpu", "knockline, CPU")):
        with tempfile.TemporaryDirectory() as out:
            # The first epoch loads the kernels.
            epochs = lines(machine.train("train.mlp", device, Path(out) / "run", f"epochs={rounds + 1}") / "timings.jsonl")[1:]
        mine[who] = median(row["seconds"] for row in epochs)
    published(torch, kinds["multi"](d).cuda(), 1e-3, X[:512], y[:512], 64)
    mine["PyTorch, published"] = median(published(torch, kinds["multi"](d).cuda(), 1e-3, X, y, 64) for _ in range(rounds))
    mine["PyTorch, graphs"] = median(graphs(torch, kinds["multi"](d).cuda(), 1e-3, *on_gpu, 64) for _ in range(rounds))
    table(rows)
    (machine.out / "gpu.json").write_text(json.dumps({"about": about, "seconds": rows}, indent=1, ensure_ascii=False) + "\n")
    ratio = {what: mine["PyTorch, published"] / mine["knockline, GPU"] for what, mine in rows.items()}
    machine.check("batch 1 is 300 times PyTorch's", ratio["single-layer, batch 1"] >= 300, f"{ratio['single-layer, batch 1']:.0f}×")
    machine.check("the multi-layer net is 5 times PyTorch's", ratio["multi-layer, batch 64"] >= 5, f"{ratio['multi-layer, batch 64']:.1f}×")
    slower = [what for what, mine in rows.items() if mine["knockline, GPU"] >= min(mine["PyTorch, published"], mine["PyTorch, graphs"])]
    machine.check("every batch size is faster than PyTorch", not slower, ", ".join(slower) or "all")


def agreement(machine):
    for node, sets in {"train.slp": ["batch_size=1"], "train.slp, batch 256": ["batch_size=256"], "train.mlp": [], "train.mlp, three layers": ["layers=3", "hidden=203", "optimizer=adamw", "dropout=0.2", "label_smoothing=0.1"]}.items():
        with tempfile.TemporaryDirectory() as out:
            run = lambda device, name, *more: machine.train(node.split(",")[0], device, Path(out) / name, "epochs=5", *sets, *more)
            cpu, gpu, again = run("cpu", "cpu"), run("cuda", "gpu"), run("cuda", "again")
            autograd = run("cuda", "autograd", "kernel=autograd")
            for who, other in (("CPU and GPU", gpu), ("CPU and candle's autograd on the GPU", autograd)):
                both = lines(cpu / "history.jsonl"), lines(other / "history.jsonl")
                if len(both[0]) != len(both[1]):
                    machine.check(f"{node}: {who} stop after the same epoch", False, f"{len(both[0])} and {len(both[1])}")
                    continue
                pairs = list(zip(*both))
                worst = max(abs(b[key] / a[key] - 1) for a, b in pairs for key in ("loss_train", "loss_valid"))
                machine.check(f"{node}: {who} agree over {len(pairs)} epochs", worst <= TOLERANCE, f"{worst:.1e}")
            same = (gpu / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
            machine.check(f"{node}: a repeated run has the same bits", same, "yes" if same else "no")


def elsewhere(given):
    """Copies the program and the features to the host, runs this script there, and copies the results back."""
    program, artifacts = Path(given.program), Path(given.artifacts)
    files = {program: "train", HERE: "gpu.py", HERE.with_name("epochs.py"): "epochs.py", **{artifacts / "tensors" / f"{part}.safetensors": f"artifacts/tensors/{part}.safetensors" for part in PARTS}}
    if missing := [str(file) for file in files if not file.exists()]:
        sys.exit(f"error: {missing[0]} is missing; build with `cargo xtask pipeline --device cuda --to tensors` or `make cuda-check`, and run the pipeline")
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder) / "pack.tar"
        import tarfile
        with tarfile.open(pack, "w") as tar:
            for file, name in files.items():
                tar.add(file, name)
        remote = "knockline-gpu"
        run = lambda *command, **more: subprocess.run(list(map(str, command)), check=False, **more).returncode
        with open(pack, "rb") as file:
            if run("ssh", given.host, f"mkdir -p {remote} && tar -xf - -C {remote}", stdin=file):
                sys.exit(f"error: {given.host} could not be reached by ssh, or did not take the files")
        status = run("ssh", given.host, f"cd {remote} && rm -rf out && python3 gpu.py --program ./train --artifacts artifacts --out out --rounds {given.rounds}")
        Path(given.out).mkdir(parents=True, exist_ok=True)
        if run("scp", "-q", "-r", f"{given.host}:{remote}/out/.", given.out):
            print(f"error: the results could not be copied from {given.host}:{remote}/out", file=sys.stderr)
            sys.exit(status or 1)
        sys.exit(status)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", help="ssh destination of a machine with a GPU")
    parser.add_argument("--program", default=str(HERE.parent.parent / "target/x86_64-unknown-linux-gnu/debug/train"), help="the training program, built with the feature `cuda`")
    parser.add_argument("--artifacts", default=str(HERE.parent.parent / "artifacts"), help="a folder of artifacts with the result of `tensors`")
    parser.add_argument("--out", default="gpu-results", help="the folder for the results (default: gpu-results)")
    parser.add_argument("--rounds", type=int, default=5, help="number of times that each epoch is timed (default: 5)")
    given = parser.parse_args()
    if given.host:
        elsewhere(given)
    machine = Machine(given)
    ready()
    machine.out.mkdir(parents=True, exist_ok=True)
    agreement(machine)
    times(machine)
    print(f"results in {machine.out}")
    sys.exit(1 if machine.failures else 0)


if __name__ == "__main__":
    main()
