"""Nets on sequences, compared with PyTorch on SST-2: the losses of three epochs from the same weights (`losses`), the time of an
epoch (`sequences`), the accuracy on dev over five seeds (`dev`), and the memory of fine-tuning (`memory`).

PyTorch gets its best case: batches that are padded and ready before the clock starts, rows of similar length together, packed
sequences for the LSTM, and sparse gradients for embeddings. Only training is timed, without evaluation."""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

SEEDS = range(1, 6)


class Net(nn.Module):
    """An encoder, dropout, and a last layer with one output. Names and shapes are those of knockline's model.safetensors."""

    def __init__(self, table, features, trained=False, dropout=0.0, hidden=0, sparse=True):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(table.clone(), freeze=not trained, padding_idx=0, sparse=sparse and trained)
        self.hidden = nn.Linear(features, hidden) if hidden else None
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(hidden or features, 1)

    def forward(self, ids, lengths):
        x = self.encode(self.embedding(ids), lengths)
        return self.fc(self.dropout(torch.relu(self.hidden(x)) if self.hidden else x)).squeeze(1)


class Mean(Net):
    def encode(self, x, lengths):
        # Row 0 of the embeddings is zeros, so the sum does not count padding.
        return x.sum(1) / lengths.unsqueeze(1)


class Cnn(Net):
    def __init__(self, table, **more):
        super().__init__(table, 300, **more)
        self.convs = nn.ModuleList(nn.Conv1d(table.shape[1], 100, width) for width in (3, 4, 5))

    def encode(self, x, lengths):
        x = nn.functional.pad(x, (0, 0, 0, max(0, 5 - x.shape[1]))).transpose(1, 2)
        features = []
        for conv in self.convs:
            z = conv(x)
            windows = (lengths + 1 - conv.kernel_size[0]).clamp(min=1)
            beyond = torch.arange(z.shape[2]).unsqueeze(0) >= windows.unsqueeze(1)
            features.append(torch.relu(z.masked_fill(beyond.unsqueeze(1), float("-inf")).amax(2)))
        return torch.cat(features, 1)


class Lstm(Net):
    def __init__(self, table, pool="max", **more):
        super().__init__(table, 200, **more)
        self.lstm, self.pool = nn.LSTM(table.shape[1], 100, bidirectional=True, batch_first=True), pool
        self.attention = nn.Linear(200, 1, bias=False) if pool == "attention" else None

    def encode(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, (last, _) = self.lstm(packed)
        if self.pool == "last":
            return torch.cat([last[0], last[1]], 1)
        states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
        padding = (torch.arange(states.shape[1]).unsqueeze(0) >= lengths.unsqueeze(1)).unsqueeze(2)
        if self.pool == "attention":
            weights = self.attention(states).masked_fill(padding, float("-inf")).softmax(1)
            return (weights * states).sum(1)
        return states.masked_fill(padding, float("-inf")).amax(1)


def mean(table, **more):
    return Mean(table, table.shape[1], **more)


class Data:
    """The sequences that `tokens` made."""

    def __init__(self, artifacts):
        self.artifacts = artifacts
        self.table = safetensors.torch.load_file(artifacts / "tokens" / "embeddings.safetensors")["E"]
        self.parts = {}
        for part in ("train", "valid", "test"):
            arrays = safetensors.numpy.load_file(artifacts / "tokens" / f"{part}.safetensors")
            ids, offsets = arrays["ids"].astype(np.int64), arrays["offsets"]
            rows = [torch.from_numpy(ids[a:b]) for a, b in zip(offsets, offsets[1:])]
            self.parts[part] = rows, torch.from_numpy(arrays["y"]).float()

    def batches(self, part, size, order=None, seed=None):
        """Padded batches, rows of similar length together if there is a seed: as torchtext's BucketIterator made them."""
        rows, y = self.parts[part]
        order = np.arange(len(rows)) if order is None else order
        if seed is not None:
            random = np.random.default_rng(seed)
            order = random.permutation(len(rows))
            groups = [order[at : at + 64 * size] for at in range(0, len(order), 64 * size)]
            order = np.concatenate([sorted(group, key=lambda row: len(rows[row])) for group in groups])
        chunks = [order[at : at + size] for at in range(0, len(order), size)]
        if seed is not None:
            whole = chunks[:-1]
            random.shuffle(whole)
            chunks = [*whole, chunks[-1]]
        batch = lambda chunk: (nn.utils.rnn.pad_sequence([rows[row] for row in chunk], batch_first=True), torch.tensor([len(rows[row]) for row in chunk]), y[torch.from_numpy(np.asarray(chunk))])
        return [batch(chunk) for chunk in chunks]


def prepared(bench):
    """The sequences of SST-2 or, without --sst2, of the embedded sample."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    folder, given = bench.artifacts.parent / "sequences", bench.given
    if given.sst2:
        files = json.dumps([f"{given.sst2}/train.tsv", f"{given.sst2}/dev.tsv"])
        sets = ["--profile", "nlp100-2025", "--set", f"ingest.files={files}", "--set", "ingest.expect.rows=none", "--set", "ingest.expect.kept=none"]
        sets += ["--set", f"embed.source={given.vectors or 'hash:300'}", "--set", "embed.sha256=none"]
    else:
        sets = ["--profile", "sample-2025"]
    bench.run([bench.target / "xtask", "pipeline", "--artifacts", folder, "--set", "cache.remote=none", *sets, "--to", "tokens"])
    return Data(folder)


def optimizers(net, rule, rate, embedding_lr):
    """As knockline's: plain gradient descent for trained embeddings, whatever the others' rule."""
    own = [net.embedding.weight] if net.embedding.weight.requires_grad else []
    rest = [p for name, p in net.named_parameters() if name != "embedding.weight"]
    make = torch.optim.AdamW if rule == "adamw" else torch.optim.SGD
    return [make(rest, lr=rate, weight_decay=0.0), *([torch.optim.SGD(own, lr=rate * embedding_lr)] if own else [])]


def epoch(net, steps, batches):
    """Trains for an epoch and returns its seconds."""
    loss = nn.BCEWithLogitsLoss()
    net.train()
    start = time.perf_counter()
    for ids, lengths, y in batches:
        for step in steps:
            step.zero_grad()
        loss(net(ids, lengths), y).backward()
        for step in steps:
            step.step()
    return time.perf_counter() - start


@torch.no_grad()
def score(net, batches):
    """Mean loss and accuracy."""
    net.eval()
    loss, right, rows = 0.0, 0, 0
    for ids, lengths, y in batches:
        z = net(ids, lengths)
        loss += nn.functional.binary_cross_entropy_with_logits(z, y, reduction="sum").item()
        right += ((z > 0) == (y > 0.5)).sum().item()
        rows += len(y)
    return loss / rows, right / rows


def state(net):
    """The tensors that knockline's option `init` takes."""
    return {name: tensor.contiguous() for name, tensor in net.state_dict().items() if name != "embedding.weight" or net.embedding.weight.requires_grad}


# Name, net in PyTorch, batch size, rate, rule, rate of the embeddings, options of knockline.
CASES = [
    ("logistic regression, batch 1", lambda t, **m: mean(t, **m), 1, 0.01, "sgd", 1.0, ["net=mean"]),
    ("logistic regression, batch 32", lambda t, **m: mean(t, **m), 32, 0.1, "sgd", 1.0, ["net=mean"]),
    ("fine-tuned, batch 32", lambda t, **m: mean(t, trained=True, **m), 32, 0.1, "sgd", 3.0, ["net=mean", "embeddings=trained"]),
    ("mean and a hidden layer", lambda t, **m: mean(t, hidden=200, **m), 32, 1e-3, "adamw", 1.0, ["net=mean", "hidden=200"]),
    ("cnn", lambda t, **m: Cnn(t, **m), 32, 1e-3, "adamw", 1.0, ["net=cnn"]),
    ("cnn, fine-tuned", lambda t, **m: Cnn(t, trained=True, **m), 32, 1e-3, "adamw", 100.0, ["net=cnn", "embeddings=trained"]),
    ("lstm, maximum", lambda t, **m: Lstm(t, **m), 32, 1e-3, "adamw", 1.0, ["net=lstm"]),
    ("lstm, attention", lambda t, **m: Lstm(t, pool="attention", **m), 32, 1e-3, "adamw", 1.0, ["net=lstm", "pool=attention"]),
    ("lstm, last states", lambda t, **m: Lstm(t, pool="last", **m), 32, 1e-3, "adamw", 1.0, ["net=lstm", "pool=last"]),
    ("lstm, fine-tuned", lambda t, **m: Lstm(t, trained=True, **m), 32, 1e-3, "adamw", 100.0, ["net=lstm", "embeddings=trained"]),
]


def train(bench, data, sets, field=None):
    """Runs knockline's stage and returns its history, its timings and its metrics."""
    with tempfile.TemporaryDirectory() as out:
        command = [bench.target / "train", "--node", "train.x", "--artifacts", data.artifacts, "--out", out, *(x for s in sets for x in ("--set", s))]
        bench.run(command)
        lines = lambda name: [json.loads(line) for line in (Path(out) / name).read_text().splitlines()]
        return lines("history.jsonl"), lines("timings.jsonl"), json.loads((Path(out) / "metrics.json").read_text())


def losses(bench):
    """The largest relative difference of the losses of three epochs, with the same weights to start from and the same order."""
    data, found = prepared(bench), []
    for what, make, size, rate, rule, embedding_lr, sets in CASES:
        # AdamW at its usual rate multiplies rounding errors: of the net with a hidden layer, even PyTorch's losses in 32 and in 64 bits
        # are then 8e-4 apart.
        if rule == "adamw":
            rate, embedding_lr = rate / 30, embedding_lr * 30
        torch.manual_seed(0)
        net = make(data.table)
        with tempfile.TemporaryDirectory() as folder:
            init = Path(folder) / "init.safetensors"
            safetensors.torch.save_file(state(net), init)
            more = [f"init={init}", "shuffle=false", "epochs=3", f"batch_size={size}", f"lr={rate}", f"optimizer={rule}", "dropout=0"]
            more += [f"embedding_lr={embedding_lr}"] if "embeddings=trained" in sets else []
            history, _, _ = train(bench, data, [*sets, *more])
        batches, steps = data.batches("train", size), optimizers(net, rule, rate, embedding_lr)
        whole, valid = data.batches("train", 512), data.batches("valid", 512)
        worst = 0.0
        for row in history:
            epoch(net, steps, batches)
            for part, of in (("train", whole), ("valid", valid)):
                want, _ = score(net, of)
                worst = max(worst, abs(row[f"loss_{part}"] - want) / want)
        print(f"{what:<32} losses of 3 epochs within {worst:.1e} of PyTorch's", flush=True)
        found.append({"what": what, "rate": rate, "difference": worst})
    bench.results["losses"] = found


def sequences(bench):
    """Seconds of an epoch, in turn."""
    data = prepared(bench)
    for what, make, size, rate, rule, embedding_lr, sets in CASES:
        batches = data.batches("train", size, seed=1)
        contenders = {}

        def ours():
            more = ["epochs=1", f"batch_size={size}", f"lr={rate}", f"optimizer={rule}", "dropout=0"]
            return train(bench, data, [*sets, *more])[1][0]["seconds"]

        def theirs(**more):
            net = make(data.table, **more)
            return epoch(net, optimizers(net, rule, rate, embedding_lr), batches)

        contenders["knockline"] = ours
        contenders["PyTorch"] = theirs
        if what == "fine-tuned, batch 32":
            contenders["PyTorch, dense gradients"] = lambda: theirs(sparse=False)
        bench.compare("sequences", what, contenders)


def dev(bench):
    """Accuracy on dev over seeds."""
    data = prepared(bench)
    nets = {
        "mean, frozen embeddings": (lambda: mean(data.table), 32, 0.1, "sgd", 1.0, 10, ["net=mean"]),
        "mean, fine-tuned": (lambda: mean(data.table, trained=True), 32, 0.1, "sgd", 10.0, 10, ["net=mean", "embeddings=trained"]),
        "mean and a hidden layer": (lambda: mean(data.table, hidden=200), 32, 1e-3, "adamw", 1.0, 10, ["net=mean", "hidden=200"]),
        "cnn, fine-tuned": (lambda: Cnn(data.table, dropout=0.5, trained=True), 32, 1e-3, "adamw", 1000.0, 3, ["net=cnn", "embeddings=trained"]),
        "lstm, fine-tuned": (lambda: Lstm(data.table, dropout=0.5, trained=True), 32, 1e-3, "adamw", 1000.0, 3, ["net=lstm", "embeddings=trained"]),
    }
    found = []
    of_dev = data.batches("test", 512)
    for what, (make, size, rate, rule, embedding_lr, epochs, sets) in nets.items():
        more = [f"seeds={json.dumps(list(SEEDS))}", "seed=1", f"epochs={epochs}", f"batch_size={size}", f"lr={rate}", f"optimizer={rule}"]
        more += [f"embedding_lr={embedding_lr}"] if "embeddings=trained" in sets else []
        _, _, metrics = train(bench, data, [*sets, *more])
        ours = [seed["test"]["accuracy"] for seed in metrics["seeds"]]
        theirs = []
        for seed in SEEDS:
            torch.manual_seed(seed)
            net = make()
            steps = optimizers(net, rule, rate, embedding_lr)
            for number in range(epochs):
                epoch(net, steps, data.batches("train", size, seed=1000 * seed + number))
            theirs.append(score(net, of_dev)[1])
        spread = lambda all: f"{statistics.mean(all):.4f} ± {statistics.stdev(all):.4f}"
        print(f"{what:<32} dev accuracy {spread(ours)}, PyTorch {spread(theirs)}", flush=True)
        found.append({"what": what, "knockline": ours, "PyTorch": theirs})
    bench.results["dev"] = found


# Rows of the larger matrix of embeddings for `memory`.
LARGE = 300_001


def memory(bench):
    """Peak of private memory, in MB, while embeddings are trained: with the data's words, and with a matrix of more rows."""
    data = prepared(bench)
    with tempfile.TemporaryDirectory(dir=bench.artifacts.parent) as folder:
        large = Path(folder)
        shutil.copytree(data.artifacts / "tokens", large / "tokens")
        table = data.table.numpy()
        more = np.random.default_rng(1).standard_normal((LARGE - len(table), table.shape[1]), dtype=np.float32)
        safetensors.numpy.save_file({"E": np.concatenate([table, more])}, large / "tokens" / "embeddings.safetensors")
        found = []
        for artifacts, rows in ((data.artifacts, len(table)), (large, LARGE)):
            row = {"what": f"{rows:,} × {table.shape[1]}"}
            with tempfile.TemporaryDirectory() as out:
                command = [bench.target / "train", "--node", "train.x", "--artifacts", artifacts, "--out", out]
                row["knockline"] = bench.watch([*command, *(x for s in ["net=mean", "embeddings=trained", "epochs=2", "batch_size=32", "lr=0.1"] for x in ("--set", s))], "RssAnon")[1]
            for who, kind in (("PyTorch, SGD, sparse", "sgd"), ("PyTorch, Adam", "adam")):
                row[who] = bench.watch([sys.executable, __file__, artifacts, kind], "RssAnon")[1]
            print(row["what"], {who: round(mb) for who, mb in row.items() if who != "what"}, flush=True)
            found.append(row)
    bench.results["memory"] = found


def fine_tune(artifacts, kind):
    """Takes some steps, for `memory`."""
    data = Data(Path(artifacts))
    net = mean(data.table, trained=True, sparse=kind == "sgd")
    del data.table
    steps = [torch.optim.Adam(net.parameters(), lr=1e-3)] if kind == "adam" else optimizers(net, "sgd", 0.1, 1.0)
    epoch(net, steps, data.batches("train", 32, seed=1)[:20])


if __name__ == "__main__":
    fine_tune(*sys.argv[1:])
