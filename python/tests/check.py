#!/usr/bin/env python3
"""Compares the package with the program: python3 python/tests/check.py MODEL PROGRAM"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import knockline


def main():
    path, program = sys.argv[1:]
    model = knockline.load(path)
    texts = ["Bank raises forecast after record quarter", "Cannes jury plans surprise move", "zzqqx", "", "Fed’s İSTANBUL rates"] * 100
    probabilities, labels = model.predict_proba(texts), model.predict(texts)
    assert probabilities.shape == (len(texts), len(model.classes_)) and probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.txt"
        file.write_text("".join(f"{text}\n" for text in texts))
        command = [program, "predict", path, "--file", file, "--json", "--top-k", str(len(model.classes_))]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(texts)
    place = {label: number for number, label in enumerate(model.classes_)}
    for line, label, row in zip(map(json.loads, lines), labels, probabilities):
        assert line["label"] == label, line
        for odds in line["top"]:
            assert np.float32(odds["probability"]) == row[place[odds["label"]]], (line, row)
    assert labels[2] is None and labels[3] is None
    assert model.predict(texts[:1], min_probability=1.0)[0] is None
    assert model.predict_proba([]).shape == (0, len(model.classes_)) and len(model.predict(iter([]))) == 0
    explained = model.explain(texts[0])
    assert explained["label"] == labels[0] and [word["word"] for word in explained["words"]] == texts[0].split()
    assert model.score(texts[:2], labels[:2]) == 1.0
    assert model.description["labels"] == list(model.classes_) and "knockline.Model" in repr(model)
    for wrong, kind in ((lambda: knockline.load("/nowhere"), knockline.KnocklineError), (lambda: model.predict("one text"), TypeError), (lambda: model.predict([1]), TypeError)):
        try:
            wrong()
        except kind as error:
            assert str(error)
        else:
            raise AssertionError(f"{kind} was not raised")
    print(f"{len(texts)} texts: the package and the program agree")


if __name__ == "__main__":
    main()
