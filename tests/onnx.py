#!/usr/bin/env python3
"""Compares ONNX graphs with the predictions of their runs, on all rows of test, with onnxruntime.

    pip install onnxruntime pyarrow safetensors numpy
    python3 tests/onnx.py ARTIFACTS RUN..."""

import json
import string
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 64


def ids_of_titles(artifacts, notes):
    """The ids of each title's words, from what the graph says of its words."""
    places = {}
    for place, word in enumerate(notes["knockline.words"].split("\n")[:-1]):
        places.setdefault(word, place + 1)
    lowercase = notes["knockline.lowercase"]
    forms = {"never": lambda word: [word], "fallback": lambda word: [word, word.lower()], "always": lambda word: [word.lower()]}[lowercase]
    tokenizer = notes["knockline.tokenizer"]
    assert tokenizer in ("exercise", "whitespace"), tokenizer
    spaces = {} if tokenizer == "whitespace" else str.maketrans(string.punctuation, " " * len(string.punctuation))
    find = lambda word: next((places[form] for form in forms(word) if form in places), None)
    table = pyarrow.parquet.read_table(artifacts / "split" / "test.parquet", columns=["id", "title"]).to_pydict()
    return {number: [id for word in title.translate(spaces).split() if (id := find(word))] for number, title in zip(table["id"], table["title"])}


def check(artifacts, run, path):
    """The number of rows and the largest difference of a probability."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {one.name: one.shape for one in session.get_inputs()}
    labels = json.loads(session.get_modelmeta().custom_metadata_map["knockline.labels"])
    table = pyarrow.parquet.read_table(artifacts / run / "predictions.parquet").to_pydict()
    rows = [row for row, part in enumerate(table["split"]) if part == "test"]
    want = np.array([[table[f"p_{label}"][row] for label in labels] for row in rows])
    ids = [table["id"][row] for row in rows]
    sequences, sparse = {}, {}
    if "ids" in inputs:
        sequences = ids_of_titles(artifacts, session.get_modelmeta().custom_metadata_map)
    if "ngrams" in inputs:
        of = load_file(artifacts / "ngrams" / "test.safetensors")
        places = zip(of["id"].tolist(), of["indptr"], of["indptr"][1:])
        sparse = {number: (of["indices"][start:end], of["values"][start:end]) for number, start, end in places}
    worst = 0.0
    for start in range(0, len(ids), AT_ONCE):
        some, given = ids[start : start + AT_ONCE], {}
        if "ids" in inputs:
            lists = [sequences[number] for number in some]
            given["ids"] = np.zeros((len(some), max(1, *map(len, lists))), np.int64)
            for row, tokens in zip(given["ids"], lists):
                row[: len(tokens)] = tokens
        if "ngrams" in inputs:
            given["ngrams"] = np.zeros((len(some), inputs["ngrams"][1]), np.float32)
            for row, number in zip(given["ngrams"], some):
                columns, values = sparse[number]
                row[columns] = values
        (p,) = session.run(None, given)
        worst = max(worst, float(np.abs(p - want[start : start + AT_ONCE]).max()))
    return len(ids), worst


def main():
    artifacts, *runs = sys.argv[1:]
    artifacts = Path(artifacts).resolve()
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            path = Path(folder) / f"{run}.onnx"
            command = ["cargo", "xtask", "model", "export", run, path, "--format", "onnx", "--uncalibrated", "--artifacts", artifacts]
            subprocess.run(list(map(str, command)), cwd=ROOT, check=True)
            rows, worst = check(artifacts, run, path)
            print(f"{run}: {rows} rows, largest difference {worst:.1e}")
            if not (rows > 0 and worst < 1e-5):
                sys.exit(f"{run}: the graph differs from the run by {worst}")


if __name__ == "__main__":
    main()
