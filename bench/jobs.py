"""Whole jobs: classifying many headlines, compared with fastText, and the exercise from raw files to trained nets, compared with the Python tools."""

import csv
import io
import json
import string
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

FIVE = ["Reuters", "Huffington Post", "Businessweek", "Contactmusic.com", "Daily Mail"]
LABELS = {"b": 0, "t": 1, "e": 2, "m": 3}


def titles(bench, part):
    import pandas
    return pandas.read_parquet(bench.artifacts / "split" / f"{part}.parquet", columns=["title", "category"])


def predict(bench):
    """Compares predictions with fastText, whose model has 300 dimensions and whose Python interface gets all lines at once."""
    import fasttext
    table = titles(bench, "train")
    work = bench.artifacts.parent
    train = work / "fasttext.txt"
    train.write_text("".join(f"__label__{c} {t}\n" for t, c in zip(table.title, table.category)))
    # With its default rate of 0.1, fastText ends in NaN here.
    model = fasttext.train_supervised(str(train), dim=300, lr=0.05, epoch=10, thread=1, verbose=0)
    every = table.title.tolist()
    lines = (every * (bench.given.lines // len(every) + 1))[: bench.given.lines]
    file = work / "headlines.txt"
    file.write_text("\n".join(lines) + "\n")

    def ours(run, threads, *more):
        command = [bench.target / "predict", "--artifacts", bench.artifacts, "--run", run, "--file", file, *more]
        return lambda: bench.run(command, {"KNOCKLINE_THREADS": threads} if threads else None, stdout=subprocess.DEVNULL)[0]

    def fasttext_s(k):
        start = time.perf_counter()
        model.predict(lines, k=k)
        return time.perf_counter() - start

    bench.compare("predict", f"{len(lines):,} headlines, the likeliest", {
        "knockline": ours("train.slp", None, "--top-k", "1"), "one thread": ours("train.slp", "1", "--top-k", "1"),
        "multi-layer": ours("train.mlp", None, "--top-k", "1"), "fastText": lambda: fasttext_s(1)})
    bench.compare("predict", f"{len(lines):,} headlines, all four", {
        "knockline": ours("train.slp", None), "one thread": ours("train.slp", "1"),
        "multi-layer": ours("train.mlp", None), "fastText": lambda: fasttext_s(4)})


def python_answers(archive, vectors, epochs):
    """Solves problems 70 to 79 as the Python answers do, with as many epochs of the multi-layer net as knockline trained."""
    import numpy as np
    import pandas
    import torch
    from gensim.models import KeyedVectors
    from sklearn.model_selection import train_test_split

    from epochs import BATCHES, Mlp, loader, pytorch, slp

    names = ["id", "title", "url", "publisher", "category", "story", "hostname", "timestamp"]
    with zipfile.ZipFile(archive) as file:
        raw = file.read("newsCorpora.csv")
    table = pandas.read_csv(io.BytesIO(raw), header=None, sep="\t", names=names, quoting=csv.QUOTE_NONE)
    table = table[table.publisher.isin(FIVE)]
    train, rest = train_test_split(table, test_size=0.2, random_state=123, stratify=table.category)
    valid, test = train_test_split(rest, test_size=0.5, random_state=123, stratify=rest.category)
    known = KeyedVectors.load_word2vec_format(vectors, binary=True)
    spaces = str.maketrans(string.punctuation, " " * len(string.punctuation))

    def features(part):
        rows = []
        for title in part.title:
            found = [known[word] for word in title.translate(spaces).split() if word in known]
            rows.append(sum(found) / len(found) if found else np.zeros(known.vector_size, "f4"))
        return torch.from_numpy(np.stack(rows)), torch.tensor(part.category.map(LABELS).to_numpy())

    parts = [features(part) for part in (train, valid, test)]
    X, y = parts[0]
    d = X.shape[1]

    def scores(net):
        net.eval()
        with torch.no_grad():
            return [(torch.nn.functional.cross_entropy(net(X), y).item(), (net(X).argmax(-1) == y).float().mean().item()) for X, y in parts]

    for count in (10, 30):
        net = slp(d)
        for _ in range(count):
            pytorch(net, 0.1, loader(X, y, 1))
            scores(net)
    for batch in BATCHES:
        net = slp(d)
        pytorch(net, 0.1, loader(X, y, batch))
        scores(net)
    net = Mlp(d)
    for _ in range(epochs):
        pytorch(net, 1e-3, loader(X, y, 64))
        scores(net)


def whole(bench):
    """Runs everything from scratch. The Python side, which takes minutes, runs once, and its imports are not timed."""
    given = bench.given
    if not (given.archive and given.vectors):
        print("whole: skipped; give --archive and --vectors")
        return
    times = {"knockline": [], "Python": []}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=bench.artifacts.parent) as cold:
            times["knockline"].append(bench.pipeline(cold)[0])
            epochs = json.loads((Path(cold) / "train.mlp" / "metrics.json").read_text())["epochs"]
    start = time.perf_counter()
    python_answers(given.archive, given.vectors, epochs)
    times["Python"].append(time.perf_counter() - start)
    bench.note("whole", "raw files to report", times)
