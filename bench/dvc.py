#!/usr/bin/env python3
"""knockline's cache compared with DVC's: the same nine nodes, run by `cargo xtask pipeline` and by `dvc repro`.

    python3 bench/dvc.py [--rounds 5] [--source ARCHIVE] [--vectors FILE]

Prints a table and writes bench/dvc.json. DVC is installed from PyPI into a virtual environment below target/.
The two take turns and are timed as whole commands, process start included; a figure is the median of the rounds.
Without --source and --vectors, the embedded sample and random vectors are used."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / "target" / "bench-dvc"
VERSION = "3.67.1"
# The net of each training run, with further options; `train.curve` is a longer run of the single-layer net.
NETS = {"train.slp": "slp", "train.curve": "slp --set epochs=30", "train.mlp": "mlp"}
# Each node with the package of its stage and what it reads.
GRAPH = json.loads(r"""[
 ["ingest", "ingest", []],
 ["split", "split", ["ingest/headlines.parquet"]],
 ["embed", "embed", ["split/train.parquet", "split/valid.parquet", "split/test.parquet"]],
 ["tensors", "tensors", ["split/train.parquet", "split/valid.parquet", "split/test.parquet", "embed/vocabulary.parquet", "embed/vectors.safetensors"]],
 ["train.slp", "train", ["tensors/train.safetensors", "tensors/valid.safetensors", "tensors/test.safetensors"]],
 ["train.curve", "train", ["tensors/train.safetensors", "tensors/valid.safetensors", "tensors/test.safetensors"]],
 ["train.mlp", "train", ["tensors/train.safetensors", "tensors/valid.safetensors", "tensors/test.safetensors"]],
 ["train.sweep", "train", ["tensors/train.safetensors", "tensors/valid.safetensors", "tensors/test.safetensors"]],
 ["report", "report", ["ingest", "split", "embed", "tensors", "train.slp", "train.curve", "train.mlp", "train.sweep"]]
]""")


def run(command, cwd, env=None, quiet=True):
    start = time.perf_counter()
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=quiet, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return seconds, done


def dvc_program():
    program = VENV / "bin" / "dvc"
    if not program.exists():
        run([sys.executable, "-m", "venv", VENV], ROOT)
        run([VENV / "bin" / "pip", "install", "--quiet", f"dvc=={VERSION}"], ROOT)
    return program


class Knockline:
    name = "knockline"

    def __init__(self, work, source, vectors):
        self.artifacts = work / "knockline"
        self.remote = work / "knockline-remote"
        self.sets = [f"{name}={value}" for name, value in (("ingest.source", source), ("embed.source", vectors)) if value]

    def pipeline(self, rate, *more):
        sets = [*self.sets, f"train.slp.lr={rate}"]
        command = ["cargo", "xtask", "pipeline", "--json", "--jobs", "1", "--artifacts", self.artifacts, *more]
        seconds, done = run([*command, *(x for s in sets for x in ("--set", s))], ROOT)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return seconds, [line["node"] for line in lines if line["status"] == "run"]

    def push(self):
        self.shared("push")

    def pull(self):
        shutil.rmtree(self.artifacts)
        return self.shared("pull")

    def shared(self, what):
        command = ["cargo", "xtask", "cache", what, "--artifacts", self.artifacts, "--set", f"cache.remote={self.remote}"]
        return run([*command, *(x for s in [*self.sets, "train.slp.lr=0.1"] for x in ("--set", s))], ROOT)[0]


class Dvc:
    name = "DVC"

    def __init__(self, work, source, vectors, binaries):
        self.dvc = dvc_program()
        self.folder = work / "dvc"
        self.folder.mkdir()
        self.env = {**os.environ, "RAYON_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
        sources = {"ingest": source, "embed": vectors}
        stages = {}
        for node, package, reads in GRAPH:
            folder = node.replace(".", "-")
            command = f"{binaries / package} --node {node} --artifacts . --out {folder}"
            command += "".join(f" --input {other} {other.replace('.', '-')}" for other in sorted({r.split('/')[0] for r in reads}))
            if node in NETS:
                command += f" --set net={NETS[node]}"
            if sources.get(node):
                command += f" --set source={sources[node]}"
            stage = {"cmd": command, "deps": [read if "/" in read else read.replace(".", "-") for read in reads], "outs": [folder]}
            if node == "train.slp":
                stage["cmd"] += " --set lr=${lr}"
                stage["params"] = ["lr"]
            if sources.get(node):
                stage["deps"].append(str(sources[node]))
            stages[folder] = stage
        # JSON is YAML.
        (self.folder / "dvc.yaml").write_text(json.dumps({"stages": stages}))
        self.params("0.1")
        run(["git", "init", "--quiet"], self.folder)
        self.command("init", "--quiet")
        self.command("remote", "add", "--default", "shared", work / "dvc-remote")

    def params(self, rate):
        (self.folder / "params.yaml").write_text(f"lr: {rate}\n")

    def command(self, *arguments):
        return run([self.dvc, *arguments], self.folder, self.env)

    def pipeline(self, rate, *_):
        self.params(rate)
        seconds, done = self.command("repro")
        return seconds, [line for line in done.stdout.splitlines() if line.startswith("Running stage")]

    def push(self):
        self.command("push")

    def pull(self):
        for node, _, _ in GRAPH:
            shutil.rmtree(self.folder / node.replace(".", "-"))
        shutil.rmtree(self.folder / ".dvc" / "cache")
        shutil.rmtree(self.folder / ".dvc" / "tmp", ignore_errors=True)
        return self.command("pull")[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="number of times that each tool runs (default: 5)")
    parser.add_argument("--source", type=lambda p: str(Path(p).resolve()), help="the news archive")
    parser.add_argument("--vectors", type=lambda p: str(Path(p).resolve()), help="the word vectors")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        ours = Knockline(work, given.source, given.vectors)
        _, made = ours.pipeline("0.1")
        assert len(made) == 9, made
        binaries = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
        theirs = Dvc(work, given.source, given.vectors, binaries)
        _, made = theirs.pipeline("0.1")
        assert len(made) == 9, made
        ours.push()
        theirs.push()
        times = {}
        for turn in range(given.rounds):
            for tool in (ours, theirs):
                new = f"0.{101 + turn}"

                def measure(what, seconds, ran, expected):
                    assert len(ran) == expected, (tool.name, what, ran)
                    times.setdefault(what, {}).setdefault(tool.name, []).append(seconds)

                measure("nothing changed", *tool.pipeline("0.1"), 0)
                measure("one parameter changed: two stages run", *tool.pipeline(new), 2)
                measure("the parameter changed back", *tool.pipeline("0.1"), 0)
        for _ in range(given.rounds):
            for tool in (ours, theirs):
                times.setdefault("all results from a shared folder", {}).setdefault(tool.name, []).append(tool.pull())
        version = run([theirs.dvc, "--version"], work)[1].stdout.strip()
        print(f"{'':<40} {'DVC ' + version:>12} {'knockline':>12} {'ratio':>8}")
        rows = []
        for what, both in times.items():
            dvc, knockline = statistics.median(both["DVC"]), statistics.median(both["knockline"])
            print(f"{what:<40} {dvc:>10.2f} s {knockline:>10.2f} s {dvc / knockline:>7.1f}×")
            rows.append({"what": what, "dvc": both["DVC"], "knockline": both["knockline"], "ratio": dvc / knockline})
        about = {"dvc": version, "python": platform.python_version(), "processors": os.cpu_count(), "source": "given" if given.source else "sample"}
        (ROOT / "bench" / "dvc.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
