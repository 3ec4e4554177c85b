"""Answers over HTTP (`serve`), compared with FastAPI around fastText and around scikit-learn, the memory of a server that answers for minutes
(`soak`), and the size and the start of a model file (`model`), compared with fastText's .bin and .ftz.

All servers get the same requests, one headline in each, from wrk on the same machine, and have two processes or threads that compute.
FastAPI runs on uvicorn with uvloop and httptools. The peers are trained on the same rows as knockline's models."""

import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import fasttext
import joblib
import pyarrow.parquet
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

CONNECTIONS = (1, 16, 256)
SECONDS = 5
WORKERS = os.cpu_count() or 1

# Requests are made before the time starts, so that the load takes as little of the machine as it can.
WRK = """
local requests, at, wait = {}, 0, tonumber(os.getenv("WAIT_MS"))
wrk.headers["Content-Type"] = "application/json"
init = function()
  for line in io.lines(os.getenv("BODIES")) do requests[#requests + 1] = wrk.format("POST", "/predict", nil, line) end
end
request = function() at = at % #requests + 1; return requests[at] end
-- Clients that come independently of each other.
if wait then delay = function() return math.floor(0.5 - math.log(1 - math.random()) * wait) end end
done = function(summary, latency, requests)
  io.write(string.format('\\nJSON {"requests": %d, "seconds": %f, "errors": %d, "p50": %f, "p99": %f, "p999": %f}\\n', summary.requests,
    summary.duration / 1e6, summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end
"""
# The floor at one connection: an answer, without reading what is asked.
FLOOR = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
body = b'{"model":"train.linear-f32","predictions":[{"label":"b","probability":0.99842,"top":[{"label":"b","probability":0.99842},{"label":"t","probability":0.00085},{"label":"e","probability":0.00047},{"label":"m","probability":0.00025}],"words":8,"words_known":8}]}'
answer = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body
while True:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while connection.recv(1 << 16):
        connection.sendall(answer)
"""
# Connections that wait after each answer, for a load that a server has time for.
PATIENT = 64


class Prepared:
    """The models, and the headlines that are asked for."""

    def __init__(self, bench):
        self.folder = bench.artifacts.parent / "serving"
        artifacts = self.folder / "artifacts"
        more = [x for s in bench.headlines() for x in ("--set", s)]
        bench.pipeline(artifacts, "--to", "train.best", *more)
        bench.pipeline(artifacts, "--to", "train.slp", *more)
        self.models = {}
        for run in ("train.best", "train.linear", "train.slp"):
            for precision in ("f32", "f16", "int8"):
                path = self.folder / f"{run}-{precision}.knock"
                bench.run([bench.target / "export", run, path, "--artifacts", artifacts, "--quantize", precision])
                self.models[run, precision] = path
        read = lambda part: pyarrow.parquet.read_table(artifacts / "split" / f"{part}.parquet", columns=["title", "category"]).to_pydict()
        self.train, self.test = read("train"), read("test")
        self.test_path = artifacts / "split" / "test.parquet"
        self.bodies = self.folder / "bodies.txt"
        self.bodies.write_text("".join(json.dumps({"texts": [title]}, ensure_ascii=False) + "\n" for title in self.test["title"]))

    def fasttext(self):
        """A fastText model with n-grams of words and characters, and its quantised form."""
        lines = self.folder / "train.txt"
        lines.write_text("".join(f"__label__{label} {title}\n" for label, title in zip(self.train["category"], self.train["title"])))
        model = fasttext.train_supervised(str(lines), epoch=25, lr=0.5, wordNgrams=2, minn=3, maxn=5, dim=100, verbose=0, seed=1)
        whole, small = self.folder / "fasttext.bin", self.folder / "fasttext.ftz"
        model.save_model(str(whole))
        model.quantize(str(lines), retrain=True, cutoff=100_000)
        model.save_model(str(small))
        return whole, small

    def scikit_learn(self):
        """tf-idf of words and characters, and a logistic regression."""
        features = make_union(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True))
        model = make_pipeline(features, LogisticRegression(C=10, max_iter=1000)).fit(self.train["title"], self.train["category"])
        path = self.folder / "scikit-learn.joblib"
        joblib.dump(model, path)
        return path


@contextlib.contextmanager
def server(command, env, port):
    """A server that runs until the block ends."""
    child = subprocess.Popen([str(c) for c in command], env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", b'{"texts": ["x"]}', {"Content-Type": "application/json"})
                urllib.request.urlopen(request, timeout=5).read()
                break
            except OSError:
                if child.poll() is not None or time.monotonic() > until:
                    os.killpg(child.pid, signal.SIGKILL)
                    sys.exit(f"{' '.join(map(str, command))} does not answer:\n{child.stderr.read().decode()}")
                time.sleep(0.1)
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        child.stderr.close()
        child.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def load(script, bodies, port, connections, wait_ms=None, seconds=SECONDS):
    """What wrk measures."""
    env = {**os.environ, "BODIES": str(bodies), **({"WAIT_MS": str(wait_ms)} if wait_ms else {})}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), f"http://127.0.0.1:{port}"]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    found = json.loads(next(line for line in out.splitlines() if line.startswith("JSON "))[5:])
    if found["errors"]:
        sys.exit(f"{found['errors']} requests failed: {out}")
    return {"rate": found["requests"] / found["seconds"], **{name: found[name] for name in ("p50", "p99", "p999")}}


def serve(bench):
    """Requests a second and the latency's percentiles in ms, by the number of connections, and at half of the largest rate."""
    if not shutil.which("wrk"):
        sys.exit("wrk is missing; install it (Debian: apt-get install wrk)")
    data = Prepared(bench)
    whole, _ = data.fasttext()
    peers = {"FastAPI, fastText": ("fasttext", whole), "FastAPI, scikit-learn": ("scikit_learn", data.scikit_learn())}
    contenders = {f"knockline, {run}": [bench.target / "knockline", "serve", data.models[run, "f32"], "--threads", str(WORKERS), "--listen"] for run in ("train.linear", "train.best", "train.slp")}
    found = {}
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK)
        script.flush()
        for _ in range(bench.given.rounds):
            for who in [*contenders, *peers, "floor"]:
                port = free_port()
                if who in peers:
                    kind, path = peers[who]
                    uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", Path(__file__).parent, "peer_server:app", "--port", str(port), "--workers", str(WORKERS), "--no-access-log", "--log-level", "warning"]
                    command, env = uvicorn, {"PEER_KIND": kind, "PEER_MODEL": str(path), "OMP_NUM_THREADS": "1"}
                elif who == "floor":
                    command, env = [sys.executable, "-c", FLOOR, str(port)], {}
                else:
                    command, env = [*contenders[who], f"127.0.0.1:{port}"], {}
                with server(command, env, port):
                    for connections in CONNECTIONS[:1] if who == "floor" else CONNECTIONS:
                        found.setdefault((who, str(connections)), []).append(load(script.name, data.bodies, port, connections))
                    if who == "floor":
                        continue
                    most = max(found[who, str(c)][-1]["rate"] for c in CONNECTIONS)
                    found.setdefault((who, "half load"), []).append(load(script.name, data.bodies, port, PATIENT, max(1, round(PATIENT / (most / 2) * 1e3))))
    rows = []
    for (who, what), all in found.items():
        median = {name: statistics.median(one[name] for one in all) for name in all[0]}
        rows.append({"who": who, "connections": what, "all": all, **median})
        print(f"{who:<24} {what:>9}  {median['rate']:8.0f}/s  p50 {median['p50']:7.2f}  p99 {median['p99']:7.2f}  p99.9 {median['p999']:7.2f} ms", flush=True)
    bench.results["serve"] = rows


def soak(bench):
    """Resident memory of a server, in MB, each ten seconds while it answers."""
    if not shutil.which("wrk"):
        sys.exit("wrk is missing; install it (Debian: apt-get install wrk)")
    data = Prepared(bench)
    port = free_port()
    rows = []
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script, server([bench.target / "knockline", "serve", data.models["train.best", "f32"], "--listen", f"127.0.0.1:{port}"], {}, port) as child:
        script.write(WRK)
        script.flush()
        start = time.monotonic()
        while (at := time.monotonic() - start) < 60 * bench.given.minutes:
            load(script.name, data.bodies, port, PATIENT, seconds=10)
            status = Path(f"/proc/{child.pid}/status").read_text()
            rows.append({"minute": at / 60, "mb": int(status.split("VmRSS:")[1].split()[0]) / 1e3})
    print(f"after {rows[0]['minute'] + 1 / 6:.1f} minutes {rows[0]['mb']:.1f} MB, at most {max(row['mb'] for row in rows):.1f} MB, after {rows[-1]['minute'] + 1 / 6:.1f} minutes {rows[-1]['mb']:.1f} MB")
    bench.results["soak"] = rows


def model(bench):
    """Size in MB, seconds from the start of a process to its first answer, and accuracy on test."""
    data = Prepared(bench)
    rows = []
    label = {title: category for title, category in zip(data.test["title"], data.test["category"])}
    for (run, precision), path in data.models.items():
        starts = [bench.run([bench.target / "knockline", "predict", path, "Fed raises rates"])[0] for _ in range(max(bench.given.rounds, 3))]
        figures = json.loads(bench.run([bench.target / "knockline", "test", path, data.test_path, "--label-column", "category", "--json"])[1])
        rows.append({"what": f"{run}, {precision}", "mb": path.stat().st_size / 1e6, "start": statistics.median(starts), "accuracy": figures["accuracy"]})
    for path in data.fasttext():
        code = f"import fasttext; fasttext.load_model({str(path)!r}).predict('Fed raises rates')"
        starts = [bench.run([sys.executable, "-c", code])[0] - bench.run([sys.executable, "-c", "import fasttext"])[0] for _ in range(max(bench.given.rounds, 3))]
        loaded = fasttext.load_model(str(path))
        titles = list(label)
        right = sum(loaded.predict(title.replace("\n", " "))[0][0] == f"__label__{label[title]}" for title in titles)
        rows.append({"what": f"fastText, {path.suffix}", "mb": path.stat().st_size / 1e6, "start": statistics.median(starts), "accuracy": right / len(titles)})
    for row in rows:
        print(f"{row['what']:<20} {row['mb']:8.2f} MB  {1e3 * row['start']:7.1f} ms  {row['accuracy']:.4f}", flush=True)
    bench.results["model"] = rows
