#!/usr/bin/env python3
"""The benchmarks: times of knockline and its peers and, in some benchmarks, of a floor, all from the same run.

    cargo xtask bench [NAME...] [-- --archive ZIP --vectors FILE --rounds 5 --words 300000 --lines 1000000]

Without --archive and --vectors, the embedded sample and random vectors are used. Contenders take turns; a figure is the median
of the rounds. The peers are installed from PyPI into a virtual environment below target/ (some 6 GB, most of it PyTorch). Every
single time is written to target/bench/results.json."""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "bench"
VENV = WORK / "venv"
PEERS = ["torch==2.15.0", "numpy", "pandas", "pyarrow", "scikit-learn", "gensim", "safetensors", "fasttext-numpy2", "vowpalwabbit", "isal", "matplotlib", "fastapi", "uvicorn[standard]"]
# The module of each benchmark, in the order in which the benchmarks run.
NAMES = {"single": "epochs", "multi": "epochs", "classes": "epochs", "vectors": "files", "gzip": "files", "ingest": "files", "stages": "stages", "predict": "jobs", "whole": "jobs",
         "growth": "growth", "classifiers": "classifiers", "losses": "sequences", "sequences": "sequences", "dev": "sequences", "memory": "sequences", "serve": "serving", "soak": "serving", "model": "serving", "workers": "workers"}


class Bench:
    """The paths that benchmarks use, and how contenders are timed."""

    def __init__(self, given):
        self.given = given
        self.target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
        self.artifacts = WORK / "artifacts"
        self.sources = [f"{option}={value}" for option, value in (("ingest.source", given.archive), ("embed.source", given.vectors)) if value]
        self.results = {}

    def prepare(self):
        self.run(["cargo", "build", "--quiet", "--workspace", "--bins", "--examples"])
        self.pipeline(self.artifacts)

    def pipeline(self, artifacts, *more):
        sets = (x for source in self.sources for x in ("--set", source))
        return self.run([self.target / "xtask", "pipeline", "--artifacts", artifacts, "--set", "cache.remote=none", *sets, *more])

    def headlines(self):
        """The options that read the real headlines of --texts, and find words in the vectors of --vectors in lower case, too."""
        sets = ["embed.lowercase=fallback"] if self.given.vectors else []
        if self.given.texts:
            columns = 'ingest.columns={text="column_3",label="column_1",group="column_2"}'
            sets += [f"ingest.source={self.given.texts}", "ingest.header=false", columns]
        return sets

    def run(self, command, env=None, cwd=ROOT, stdout=subprocess.PIPE):
        """Runs a command and returns its seconds and its output."""
        start = time.perf_counter()
        child = subprocess.Popen([str(c) for c in command], cwd=cwd, env={**os.environ, **(env or {})}, stdout=stdout, stderr=subprocess.PIPE, text=True)
        out, errors = child.communicate()
        seconds = time.perf_counter() - start
        if child.returncode:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{out or ''}{errors}")
        return seconds, out

    def watch(self, command, field, env=None):
        """Runs a command and returns its seconds and the peak of a field of its status, in MB: RssAnon is private memory, VmHWM the peak of the resident set."""
        start = time.perf_counter()
        child = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **(env or {})})
        command, peak = Path(command[0]).name, 0.0
        while child.poll() is None:
            peak = max(peak, status(child.pid, command, field))
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        if child.returncode:
            sys.exit(f"{command} failed:\n{child.stderr.read().decode()}")
        return seconds, peak

    def compare(self, name, what, contenders, floor=None):
        """Times the contenders in turn; the first is knockline. `floor` names the contender that is a limit and not a rival."""
        times = {who: [] for who in contenders}
        for turn in range(self.given.rounds):
            for who, contend in contenders.items():
                print(f"{what}: round {turn + 1} of {self.given.rounds}, {who}          ", end="\r", file=sys.stderr)
                times[who].append(contend())
        self.note(name, what, times, floor)

    def note(self, name, what, times, floor=None):
        median = {who: statistics.median(all) for who, all in times.items()}
        ours = next(iter(median.values()))
        row = {"what": what, "seconds": times, "median": median, "ratio": {who: m / ours for who, m in median.items()}, "floor": floor}
        self.results.setdefault(name, []).append(row)
        cells = [f"{who} {shown(m)}" + ("" if i == 0 else f" ({m / ours:.2f}×)" if who == floor else f" ({m / ours:.1f}×)") for i, (who, m) in enumerate(median.items())]
        print(f"{what:<28}", "; ".join(cells), flush=True)


def status(pid, command, field):
    """A field of a process's status in MB; 0 while the process is still Python, before it becomes the command."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return 0.0
    return int(lines[field].split()[0]) / 1000 if field in lines and lines["Name"].strip() == command[:15] else 0.0


def shown(seconds):
    return f"{1e3 * seconds:.2f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def machine():
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    field = lambda name: next((line.split(":", 1)[1].strip() for line in info if line.startswith(name)), "")
    from importlib.metadata import version
    names = [peer.split("==")[0].split("[")[0] for peer in PEERS]
    return {
        "processor": field("model name") or platform.processor(), "processors": os.cpu_count(), "avx512": "avx512f" in field("flags"),
        "system": platform.system(), "python": platform.python_version(), "peers": {name: version(name) for name in names},
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip(),
    }


def in_own_environment():
    """Restarts in the virtual environment with the peers, which is made first if it does not exist."""
    python, stamp = VENV / "bin" / "python", VENV / "peers.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != PEERS:
        print(f"installing the peers into {VENV}: this takes some minutes and some 6 GB", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
        stamp.write_text(json.dumps(PEERS))
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [python, *sys.argv])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    absolute = lambda path: str(Path(path).resolve())
    parser.add_argument("--archive", type=absolute, help="the news archive, a .zip file")
    parser.add_argument("--vectors", type=absolute, help="the word vectors, a binary word2vec file")
    parser.add_argument("--texts", type=absolute, help="real headlines for `classifiers`, `serve` and `model`: lines of label, story and title, separated by tabs")
    parser.add_argument("--sst2", type=absolute, help="the folder of SST-2's train.tsv and dev.tsv, for `classifiers`, `losses`, `sequences`, `dev` and `memory`")
    parser.add_argument("--rounds", type=int, default=5, help="number of times that each contender runs (default: 5)")
    parser.add_argument("--words", type=int, default=300_000, help="number of words in the vector file that is made for `vectors` and `gzip` (default: 300000)")
    parser.add_argument("--lines", type=int, default=1_000_000, help="number of headlines for `predict` (default: 1000000)")
    parser.add_argument("--minutes", type=float, default=10, help="minutes of `soak` (default: 10)")
    parser.add_argument("--most", type=int, default=1_000_000, help="largest number of headlines for `growth`, which multiplies it by ten each time (default: 1000000)")
    parser.add_argument("--publish", action="store_true", help="write bench/results.json, the source of the tables in bench/README.md, instead of target/bench/results.json")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if unknown := [name for name in given.names if name not in NAMES]:
        parser.error(f"there is no benchmark {unknown[0]}; choose from {', '.join(NAMES)}")
    in_own_environment()
    # Some systems select an OpenBLAS kernel that is slow on newer processors; the peers should run at their best.
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    WORK.mkdir(parents=True, exist_ok=True)
    bench = Bench(given)
    bench.prepare()
    file = (ROOT / "bench" if given.publish else WORK) / "results.json"
    about = {**machine(), "archive": Path(given.archive or "sample").name, "texts": given.texts and Path(given.texts).name, "vectors": Path(given.vectors or "hash:300").name}
    for name in given.names or NAMES:
        getattr(importlib.import_module(NAMES[name]), name)(bench)
        if rows := bench.results.get(name):
            # Written after each benchmark, so that one that fails does not lose the results of the earlier ones.
            all = json.loads(file.read_text()) if file.exists() else {}
            file.write_text(json.dumps({**all, name: {"about": about, "rows": rows}}, indent=1, ensure_ascii=False) + "\n")
    print(f"all times are in {file.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
