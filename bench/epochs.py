"""An epoch of each net, compared with PyTorch, candle and scikit-learn. Only training is timed, without evaluation.

PyTorch is timed in two ways: as the exercise's answers use it, with a shuffling DataLoader, and in its best case, on contiguous
slices that are never shuffled. knockline's rows are shuffled."""

import json
import statistics
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


class Mlp(nn.Module):
    def __init__(self, d, classes=4):
        super().__init__()
        self.fc, self.fc_mid, self.fc_out, self.bn = nn.Linear(d, 200), nn.Linear(200, 200), nn.Linear(200, classes), nn.BatchNorm1d(200)

    def forward(self, x):
        x = torch.relu(self.fc(x))
        x = torch.relu(self.bn(self.fc_mid(x)))
        return torch.relu(self.fc_out(x))


def slp(d, classes=4):
    return nn.Linear(d, classes, bias=False)


def loader(X, y, batch):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=batch, shuffle=True)


def slices(X, y, batch):
    return [(X[i : i + batch], y[i : i + batch]) for i in range(0, len(y), batch)]


def pytorch(net, rate, rows):
    """Trains for an epoch and returns its seconds."""
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=rate), nn.CrossEntropyLoss()
    net.train()
    start = time.perf_counter()
    for inputs, labels in rows:
        optimizer.zero_grad()
        loss(net(inputs), labels).backward()
        optimizer.step()
    return time.perf_counter() - start


def stage(bench, node, *sets, env=None, artifacts=None):
    """Runs a training node and returns the rows of its timings."""
    with tempfile.TemporaryDirectory() as out:
        net = [] if node == "train.sweep" else [f"net={node.removeprefix('train.')}"]
        command = [bench.target / "train", "--node", node, "--artifacts", artifacts or bench.artifacts, "--out", out, *(x for s in [*net, *sets] for x in ("--set", s))]
        bench.run(command, {"RAYON_NUM_THREADS": "1", **(env or {})})
        name = "sweep.jsonl" if node == "train.sweep" else "timings.jsonl"
        return [json.loads(line) for line in (Path(out) / name).read_text().splitlines()]


@cache
def data(artifacts):
    arrays = safetensors.torch.load_file(artifacts / "tensors" / "train.safetensors")
    return arrays["X"], arrays["y"]


def floor(bench, threads):
    X, _ = data(bench.artifacts)
    return json.loads(bench.run([bench.target / "examples" / "floor", *X.shape, 200, 64, threads])[1])


def sgd_classifier(X, y):
    from sklearn.linear_model import SGDClassifier
    classifier = SGDClassifier(loss="log_loss", penalty=None, learning_rate="constant", eta0=0.1, max_iter=1, tol=None, n_jobs=None)
    start = time.perf_counter()
    classifier.fit(X, y)
    return time.perf_counter() - start


def single(bench):
    X, y = data(bench.artifacts)
    d = X.shape[1]
    arrays = X.numpy(), y.numpy()
    sizes = json.dumps(BATCHES)
    times = {batch: {} for batch in BATCHES}

    def note(batch, who, seconds):
        times[batch].setdefault(who, []).append(seconds)

    for turn in range(bench.given.rounds):
        print(f"single-layer epochs: round {turn + 1} of {bench.given.rounds}          ", end="\r", file=__import__("sys").stderr)
        for row in stage(bench, "train.sweep", f"batch_sizes={sizes}", "repeats=5"):
            note(row["batch_size"], "knockline", row["seconds"])
        for row in stage(bench, "train.sweep", f"batch_sizes={sizes}", "repeats=1", "kernel=autograd"):
            note(row["batch_size"], "autograd", row["seconds"])
        plain = json.loads(bench.run([bench.target / "examples" / "candle", bench.artifacts / "tensors" / "train.safetensors", *BATCHES])[1])
        for batch in BATCHES:
            note(batch, "candle", plain[str(batch)])
            note(batch, "slices", pytorch(slp(d), 0.1, slices(X, y, batch)))
            note(batch, "loader", pytorch(slp(d), 0.1, loader(X, y, batch)))
            if batch == 1:
                note(1, "SGDClassifier", sgd_classifier(*arrays))
            note(batch, "floor", floor(bench, 1)["single"])
    for batch in BATCHES:
        bench.note("single", f"single-layer, batch {batch}", times[batch], "floor")


def multi(bench):
    X, y = data(bench.artifacts)
    epoch = lambda *sets, **env: statistics.median(row["seconds"] for row in stage(bench, "train.mlp", *sets, env=env))
    bench.compare("multi", "multi-layer, batch 64", {
        "knockline": lambda: epoch("epochs=6"),
        "one thread": lambda: epoch("epochs=6", KNOCKLINE_THREADS="1"),
        "autograd": lambda: epoch("epochs=2", "kernel=autograd"),
        "slices": lambda: pytorch(Mlp(X.shape[1]), 1e-3, slices(X, y, 64)),
        "loader": lambda: pytorch(Mlp(X.shape[1]), 1e-3, loader(X, y, 64)),
        "floor": lambda: floor(bench, min(2, torch.get_num_threads()))["multi"],
    }, "floor")


def classes(bench):
    """Both nets with other numbers of classes than four, on random features of the same size: the arithmetic does not depend on their values."""
    random = np.random.default_rng(1)
    rows, d = 10_684, 300
    for k in (2, 4, 19, 1000):
        with tempfile.TemporaryDirectory() as folder:
            tensors = Path(folder) / "tensors"
            tensors.mkdir()
            (tensors / "labels.json").write_text(json.dumps([str(label) for label in range(k)]))
            for part, n in (("train", rows), ("valid", 1_336), ("test", 1_336)):
                X, y = torch.from_numpy(random.standard_normal((n, d), dtype=np.float32) / 4), torch.from_numpy(random.integers(0, k, n))
                safetensors.torch.save_file({"X": X, "y": y, "id": torch.arange(n)}, tensors / f"{part}.safetensors")
                if part == "train":
                    arrays = X, y
            sweep = lambda *sets: stage(bench, "train.sweep", "lr=0.01", *sets, artifacts=folder)[0]["seconds"]
            for batch in (1, 64):
                bench.compare("classes", f"single-layer, {k} classes, batch {batch}", {
                    "knockline": lambda: sweep(f"batch_sizes=[{batch}]", "repeats=5"),
                    "autograd": lambda: sweep(f"batch_sizes=[{batch}]", "repeats=1", "kernel=autograd"),
                    "slices": lambda: pytorch(slp(d, k), 0.01, slices(*arrays, batch)),
                })
            epoch = lambda *sets: statistics.median(row["seconds"] for row in stage(bench, "train.mlp", *sets, artifacts=folder))
            bench.compare("classes", f"multi-layer, {k} classes, batch 64", {
                "knockline": lambda: epoch("epochs=4"),
                "autograd": lambda: epoch("epochs=2", "kernel=autograd"),
                "slices": lambda: pytorch(Mlp(d, k), 1e-3, slices(*arrays, 64)),
            })
