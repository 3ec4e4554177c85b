#!/usr/bin/env python3
"""Runs the pipeline on a Slurm cluster of four nodes on this machine, and compares its results with those of
a run without it.

    tests/slurm.py [--kill] [--only VICTIM] [--measure ROWS] [--keep]

The cluster needs the packages slurmctld, slurmd, slurm-client and munge, and no root. Every daemon listens on
127.0.0.1 only. The exit status is 77 if it does not start. --kill also kills processes of the stage, the run, the command, a node and the controller in
the middle of each stage, which takes some minutes.
"""

import argparse
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DAEMONS = ["slurmctld", "slurmd", "sbatch", "srun", "munged"]
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
NODES = 4
SECRET = "mark-of-a-secret"
KEY = "mark-of-a-key"


def free_ports(count):
    """A run of free ports."""
    for base in range(20000, 60000, 50):
        sockets = []
        try:
            for port in range(base, base + count):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    sys.exit("no free ports")


class Cluster:
    """Slurm on the loopback interface: no systemd, no cgroups, no database."""

    def __init__(self, dir):
        self.dir = dir
        self.conf = dir / "slurm.conf"
        self.env = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": PATH}
        for name in ["munge", "state", "spool", "log"]:
            (dir / name).mkdir(parents=True)
        os.chmod(dir / "munge", 0o711)
        key = dir / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        port = free_ports(NODES + 1)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        self.conf.write_text(f"""\
ClusterName=loop
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
# A job that is put back into the queue waits until its old credentials have expired.
AuthInfo=socket={dir}/munge/socket,cred_expire=5
# Without these, the daemons and srun listen on every interface.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmdTimeout=5
ReturnToService=2
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool/%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/log/slurmctld
SlurmdLogFile={dir}/log/%n
NodeName=n[1-{NODES}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{port + 1}-{port + NODES}] CPUs=2 RealMemory=8000
PartitionName=main Nodes=ALL Default=YES DefMemPerCPU=500
""")

    def run(self, *command):
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True).stdout

    def up(self):
        munge = self.dir / "munge"
        # Forced, because others cannot reach its socket in this folder, and need not.
        self.run("munged", "--force", f"--socket={munge}/socket", f"--key-file={munge}/key", f"--pid-file={munge}/pid",
                 f"--log-file={munge}/log", f"--seed-file={munge}/seed")
        self.start_controller()
        for node in range(1, NODES + 1):
            (self.dir / "spool" / f"n{node}").mkdir(exist_ok=True)
            self.start_node(node)
        wait("four idle nodes", lambda: self.idle() == NODES)

    def start_controller(self, *options):
        self.run("slurmctld", *options)

    def start_node(self, node):
        self.run("slurmd", "-N", f"n{node}")

    def idle(self):
        return sum(int(n) for n in self.run("sinfo", "-h", "-t", "idle", "-o", "%D").split())

    def pid(self, name):
        return int((self.dir / f"{name}.pid").read_text())

    def down(self):
        subprocess.run(["scancel", "--me"], env=self.env, capture_output=True)
        for file in [*self.dir.glob("slurmd-*.pid"), self.dir / "slurmctld.pid", self.dir / "munge" / "pid"]:
            try:
                os.kill(int(file.read_text()), signal.SIGTERM)
            except (OSError, ValueError):
                pass
        time.sleep(1)


def wait(what, is_so, seconds=120):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            sys.exit(f"there were never {what}")
        time.sleep(0.02)


def xtask(arguments, env=None, **more):
    return subprocess.Popen(["cargo", "xtask", "pipeline", *map(str, arguments)], cwd=ROOT, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)


def done(process, what):
    output, _ = process.communicate(timeout=1200)
    if process.returncode != 0:
        sys.exit(f"{what}: exit status {process.returncode}\n{output}")
    return output


def digests(artifacts):
    """The digest of every file of every result that does not depend on times."""
    all = {}
    for manifest in sorted(artifacts.glob("*/manifest.json")):
        node = manifest.parent.name
        if node in ["train.sweep", "report"]:
            continue
        outputs = json.loads(manifest.read_text())["outputs"]
        all.update({f"{node}/{file['path']}": file["digest"] for file in outputs if file["path"] != "timings.jsonl"})
    return all


STARTED = time.monotonic()


def compare(artifacts, wanted, what):
    found = digests(artifacts)
    other = {name for name in {*wanted, *found} if wanted.get(name) != found.get(name)}
    if other or not found:
        sys.exit(f"{what}: other bytes in {sorted(other)}")
    print(f"{time.monotonic() - STARTED:.0f} s: {what}: {len(found)} files with the same bytes", flush=True)


def processes():
    """The command line of every process."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                pass


def stage_processes(artifacts, node):
    """The processes that work on a node."""
    folder = str(artifacts / ".knockline" / "job" / "programs")
    return [pid for pid, command in processes()
            if command[0].startswith(folder) and "--node" in command and command[command.index("--node") + 1] == node]


def parent(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    return 0


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def ports_outside_loopback(pids):
    """Listening sockets of these processes on other addresses than 127.0.0.1 and ::1."""
    inodes = set()
    for pid in pids:
        try:
            for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                link = os.readlink(fd)
                if link.startswith("socket:["):
                    inodes.add(link[8:-1])
        except OSError:
            pass
    loopback = {"0100007F", "00000000000000000000000001000000"}
    found = []
    for table in ["/proc/net/tcp", "/proc/net/tcp6"]:
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == "0A" and fields[9] in inodes and address not in loopback:
                found.append(f"{address}:{int(port, 16)}")
    return found


def same_bytes(cluster, dir):
    """The sample in small chunks, by one to seven processes."""
    local = dir / "local"
    done(xtask(["--artifacts", local]), "without Slurm")
    wanted = digests(local)
    for jobs in [1, 2, 4, 7]:
        artifacts = dir / f"jobs-{jobs}"
        arguments = ["--artifacts", artifacts, "--jobs-max", jobs, "--set", "executor.chunk_rows=100"]
        process = xtask([*arguments, "--executor", "slurm"], cluster.env)
        outside = set()
        stop = threading.Event()

        def watch():
            while not stop.is_set():
                names = ("slurm", "srun", "munge", "xtask")
                pids = [pid for pid, command in processes()
                        if os.path.basename(command[0]).startswith(names) or str(artifacts) in command[0]]
                outside.update(ports_outside_loopback(pids))
                time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        done(process, f"{jobs} processes")
        stop.set()
        watcher.join()
        if outside:
            sys.exit(f"ports outside of the loopback interface: {sorted(outside)}")
        compare(artifacts, wanted, f"{jobs} processes on four nodes")
        done(xtask([*arguments[:2], "--executor", "local", *arguments[2:], "--force", "split", "--force", "tensors"]),
             "processes here")
        compare(artifacts, wanted, f"{jobs} processes here")
    return wanted


class Files(http.server.BaseHTTPRequestHandler):
    """A file behind a password."""

    def do_GET(self):
        rows = "".join(f"{'bt'[i % 2]}\tword{i % 7} word{i % 11} text{i}\n" for i in range(400))
        body = ("label\ttext\n" + rows).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def no_secret(cluster, dir):
    """An address with a password is in no script and no log."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    artifacts = dir / "secret"
    source = f"http://me:{SECRET}@127.0.0.1:{server.server_port}/rows.tsv"
    done(xtask(["--artifacts", artifacts, "--executor", "slurm", "--jobs-max", 2, "--to", "split",
                "--set", f"ingest.files={source}"], cluster.env), "a source with a password")
    server.shutdown()
    no_mark(SECRET, [artifacts, cluster.dir / "log", cluster.dir / "state", cluster.dir / "spool"])
    print("a password in a source is in no script, log or result", flush=True)


def no_mark(mark, folders):
    """No file has this mark of a secret."""
    for file in (file for folder in folders for file in folder.rglob("*")):
        if not file.is_file() or mark.encode() not in file.read_bytes():
            continue
        # In a folder that only its owner can read.
        if file.name == "arguments.json" and file.parent.stat().st_mode & 0o077 == 0:
            continue
        sys.exit(f"{file} has {mark}")


SLOW_DISK = r"""
/* Every write of each second process takes a while, and leaves its program's name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_a_while(void) {
    const char *step = getenv("SLURM_STEP_ID"), *marks = getenv("SLOW_DISK_MARKS");
    char path[4096];
    if (!step || !marks || atoi(step) % 2) return;
    snprintf(path, sizeof path, "%s/%s", marks, program_invocation_short_name);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    usleep(4000);
}

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (file > 2) wait_a_while();
    return real(file, bytes, count);
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    wait_a_while();
    return real(file);
}
"""


def slow_disk(cluster, dir, wanted):
    """Each second process writes slowly. A stage starts several at once, so some of each are slow."""
    library = dir / "slow_disk.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"], input=SLOW_DISK, text=True, check=True)
    marks = dir / "slowed"
    marks.mkdir()
    artifacts = dir / "slow-disk"
    env = {**cluster.env, "LD_PRELOAD": str(library), "SLOW_DISK_MARKS": str(marks)}
    done(xtask(["--artifacts", artifacts, "--jobs-max", 4, "--set", "executor.chunk_rows=1000", "--executor", "slurm",
                "--set", 'executor.sbatch=["--nodes=4"]'], env), "a slow disk")
    slowed = {mark.name for mark in marks.iterdir()}
    missing = {"ingest", "split", "embed", "tensors"} - slowed
    if missing:
        sys.exit(f"nothing was slow in {missing}")
    compare(artifacts, wanted, "processes with a slow disk")


class Bucket(http.server.BaseHTTPRequestHandler):
    """An S3 bucket that is out of order for a while from its first upload on."""

    protocol_version = "HTTP/1.1"
    objects = {}
    seconds = 0
    began = None
    refused = 0

    def is_out_of_order(self):
        if self.command == "PUT" and Bucket.began is None:
            Bucket.began = time.monotonic()
        return Bucket.began is not None and time.monotonic() < Bucket.began + Bucket.seconds

    def do_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        if self.is_out_of_order():
            Bucket.refused += 1
            self.answer(503)
        elif self.command == "PUT":
            Bucket.objects[path] = body
            self.answer(200)
        elif path in Bucket.objects:
            self.answer(200, Bucket.objects[path])
        else:
            self.answer(404)

    do_GET = do_HEAD = do_PUT = do_any

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def remote_out_of_order(cluster, dir, wanted):
    """A remote that answers 503 for some seconds costs nothing but time; for longer, it is an error."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    env = {**cluster.env, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "me",
           "AWS_SECRET_ACCESS_KEY": KEY, "AWS_REGION": "here"}
    for seconds in [4, 1000]:
        Bucket.objects, Bucket.began, Bucket.refused, Bucket.seconds = {}, None, 0, seconds
        artifacts = dir / f"remote-{seconds}"
        arguments = ["--artifacts", artifacts, "--jobs-max", 4, "--set", "executor.chunk_rows=1000", "--executor", "slurm",
                     "--set", "cache.remote=s3://results", "--set", "cache.timeout=6", "--set", "train.sweep.repeats=1"]
        process = xtask(arguments, env)
        output, _ = process.communicate(timeout=300)
        if Bucket.refused == 0:
            sys.exit("the remote was never out of order")
        if seconds > 100:
            if process.returncode != 4 or "the remote failed" not in output or "503" not in output:
                sys.exit(f"a remote that is out of order: exit status {process.returncode}\n{output}")
            Bucket.seconds = 0
            done(xtask(arguments, env), "a remote that works again")
        elif process.returncode != 0:
            sys.exit(f"a remote that is out of order for {seconds} s: exit status {process.returncode}\n{output}")
        compare(artifacts, wanted, f"a remote that answers 503 for {seconds} s, {Bucket.refused} times")
        if not any("manifests" in name and "report" in name for name in Bucket.objects):
            sys.exit(f"the report is not in the remote: {sorted(Bucket.objects)}")
    server.shutdown()
    # Slurm itself keeps the environment of a job, in its own state.
    no_mark(KEY, [dir / "remote-4", dir / "remote-1000", cluster.dir / "log", cluster.dir / "spool"])


class Killing:
    """A run in which something is killed in the middle of each stage."""

    NODES = ["ingest", "split", "embed", "tensors", "ngrams", "train.slp", "train.mlp", "train.linear", "report"]

    def __init__(self, cluster, dir, wanted, name):
        self.cluster = cluster
        self.artifacts = dir / f"killed-{name.replace(' ', '-')}"
        self.wanted = wanted
        self.name = name
        self.arguments = [*ARGUMENTS, "--artifacts", self.artifacts, "--executor", "slurm", "--jobs-max", "4",
                          "--set", "executor.chunk_rows=5000", "--set", 'executor.sbatch=["--nodes=4"]']

    def run(self, victim):
        """Kills in every stage."""
        process = xtask(self.arguments, self.cluster.env, start_new_session=True)
        killed = []
        for node in self.NODES:
            # A stage may have run to its end in the meantime, beside another one.
            wait(f"processes of {node}", lambda: stage_processes(self.artifacts, node)
                 or (self.artifacts / node).exists() or process.poll() is not None, 300)
            pids = stage_processes(self.artifacts, node)
            if pids:
                other = victim(self, pids, process)
                killed.append(node)
                process = other or process
        again = 0
        output, _ = process.communicate(timeout=1200)
        while process.returncode != 0 and again < 5:
            # As the error says: the same command keeps what is done.
            again += 1
            process = xtask(self.arguments, self.cluster.env)
            output, _ = process.communicate(timeout=1200)
        if process.returncode != 0:
            sys.exit(f"{self.name}: exit status {process.returncode}\n{output}")
        compare(self.artifacts, self.wanted, f"{self.name} killed in {len(killed)} stages ({', '.join(killed)}), "
                f"submitted again {again} times")
        if len(killed) < 5:
            sys.exit(f"{self.name}: too few stages were hit\n{output}")


def kill_shard(_, pids, __):
    kill(pids[:1])


def kill_coordinator(run, _, process):
    mark = str(run.artifacts / ".knockline" / "job" / "programs" / "xtask")
    before = [pid for pid, command in processes() if command[0] == mark]
    kill(before)
    wait("the end of the run", lambda: all(pid not in before or not command[0] for pid, command in processes()))
    wait("another run", lambda: process.poll() is not None or any(command[0] == mark for _, command in processes()))
    # The job gives up after three tries. The same command submits it again.
    return None if process.poll() is None else xtask(run.arguments, run.cluster.env)


def kill_command(run, _, process):
    before = (run.artifacts / ".knockline" / "job" / "job.json").read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = xtask(run.arguments, run.cluster.env, start_new_session=True)
    if (run.artifacts / ".knockline" / "job" / "job.json").read_text() != before:
        sys.exit("the run was submitted twice")
    return again


def kill_controller(run, *_):
    kill([run.cluster.pid("slurmctld")])
    time.sleep(1)
    run.cluster.start_controller()


def kill_node(run, pids, _):
    """Kills a node with all that runs on it, but not the first one, on which the run is. It is back at once."""
    run.cluster.start_node(kill_other_node(run, pids))


def lose_node(run, pids, _):
    """The same, but the node is back only after Slurm has put the job back into the queue."""
    node = kill_other_node(run, pids)
    wait_for_loss(run.cluster, node)
    run.cluster.start_node(node)


def kill_other_node(run, pids):
    for node in range(NODES, 1, -1):
        daemon = run.cluster.pid(f"slurmd-n{node}")
        steps = [pid for pid, command in processes()
                 if os.path.basename(command[0]).startswith("slurmstepd") and f"n{node}" in " ".join(command)]
        of_steps = [pid for pid in pids if any(is_below(pid, step) for step in steps)]
        if of_steps or node == 2:
            kill([daemon, *steps, *of_steps])
            return node


def wait_for_loss(cluster, node):
    wait(f"answers that n{node} is down", lambda: "down" in cluster.run("sinfo", "-h", "-n", f"n{node}", "-o", "%t"))


def lose_first_node(run, *_):
    """The node on which the run is fails. Slurm puts the job back into the queue."""
    mark = str(run.artifacts / ".knockline" / "job" / "programs")
    steps = [pid for pid, command in processes() if os.path.basename(command[0]).startswith("slurmstepd")
             and ".batch" in " ".join(command)]
    batch = [pid for pid, command in processes() if any(is_below(pid, step) for step in steps)]
    on_it = [pid for pid, command in processes() if command[0].startswith(mark) and any(is_below(pid, step) for step in steps)]
    kill([run.cluster.pid("slurmd-n1"), *steps, *batch, *on_it])
    wait_for_loss(run.cluster, 1)
    run.cluster.start_node(1)


def is_below(pid, ancestor):
    while pid > 1:
        try:
            pid = parent(pid)
        except OSError:
            return False
        if pid == ancestor:
            return True
    return False


ARGUMENTS = ["--set", "ingest.source=sample:150000", "--set", "train.mlp.epochs=3", "--set", "train.slp.epochs=3",
             "--set", "train.slp.workers=3",
             "--to", "report", "--set", "train.sweep.repeats=1"]


def kills(cluster, dir, only):
    local = dir / "whole"
    done(xtask([*ARGUMENTS, "--artifacts", local]), "without Slurm")
    wanted = digests(local)
    for name, victim in [("a process", kill_shard), ("the run", kill_coordinator), ("the command", kill_command),
                         ("the controller", kill_controller), ("a node", kill_node), ("a node for longer", lose_node),
                         ("the first node", lose_first_node)]:
        if only not in [None, name]:
            continue
        start = time.monotonic()
        Killing(cluster, dir, wanted, name).run(victim)
        print(f"  {time.monotonic() - start:.0f} s", flush=True)


def measure(cluster, dir, rows):
    """Seconds of each stage by the number of nodes, each with one processor."""
    table = {}
    contenders = {"without Slurm": []}
    for nodes in [1, 2, 4]:
        contenders[f"{nodes} nodes"] = ["--executor", "slurm", "--jobs-max", nodes, "--set",
                                        f'executor.sbatch=["--nodes={nodes}"]']
    wanted = None
    # The rows as a plain file: the first step of a shared run makes one of what is generated.
    made = dir / "made"
    subprocess.run(["cargo", "run", "--quiet", "--package", "ingest", "--", "--out", made, "--set", f"source=sample:{rows}",
                    "--chunk-rows", "1048576", "--step", "unpack", "--chunks", "0..1"], cwd=ROOT, check=True, capture_output=True)
    source = dir / "headlines.tsv"
    next(made.glob("checkpoints/*/unpack/1")).rename(source)
    for name, more in contenders.items():
        artifacts = dir / name.replace(" ", "-")
        start = time.monotonic()
        command = ["cargo", "xtask", "pipeline", "--json", "--artifacts", artifacts, "--to", "train.slp", "--set",
                   f"ingest.source={source}", "--set", "ingest.format=news", "--set", "train.slp.epochs=2", "--set", "train.slp.workers=4",
                   "--set", "train.slp.batch_size=32", *more]
        # As on a node with one processor.
        env = {**cluster.env, "KNOCKLINE_THREADS": "1", "RAYON_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        ended = subprocess.run(list(map(str, command)), cwd=ROOT, env=env, capture_output=True, text=True)
        if ended.returncode != 0:
            sys.exit(f"{name}: exit status {ended.returncode}\n{ended.stdout}{ended.stderr}")
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        table[name] = {line["node"]: line["seconds"] for line in lines} | {"all": time.monotonic() - start}
        found = digests(artifacts)
        wanted = wanted or found
        if found != wanted:
            sys.exit(f"{name}: other bytes")
        shutil.rmtree(artifacts)
    one = 'for i in $(seq 20); do srun --exact --ntasks=1 true; done'
    start = time.monotonic()
    cluster.run("salloc", "--quiet", "--ntasks=1", "bash", "-c", one)
    print(f"a step of Slurm: {(time.monotonic() - start) / 20:.3f} s")
    print("| | " + " | ".join(table) + " |")
    print("| --- |" + " ---: |" * len(table))
    for node in next(iter(table.values())):
        print(f"| {node} | " + " | ".join(f"{of[node]:.1f} s" for of in table.values()) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--measure", type=int, metavar="ROWS", help="only time the stages on so many made-up rows")
    parser.add_argument("--only", help="only the kills of this victim")
    parser.add_argument("--keep", action="store_true", help="keep the folder, and name it")
    arguments = parser.parse_args()
    missing = [name for name in DAEMONS if not shutil.which(name, path=PATH)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    dir = pathlib.Path(tempfile.mkdtemp(prefix="knockline-slurm-"))
    cluster = Cluster(dir / "cluster")
    try:
        try:
            cluster.up()
        except (subprocess.CalledProcessError, SystemExit) as e:
            # Not a failure of what is tested.
            print(f"the cluster does not start here: {e}", file=sys.stderr)
            sys.exit(77)
        if arguments.measure:
            measure(cluster, dir, arguments.measure)
            return
        if not arguments.only:
            wanted = same_bytes(cluster, dir)
            slow_disk(cluster, dir, wanted)
            remote_out_of_order(cluster, dir, wanted)
            no_secret(cluster, dir)
        if arguments.kill or arguments.only:
            kills(cluster, dir, arguments.only)
    finally:
        cluster.down()
        if arguments.keep:
            print(dir)
        else:
            shutil.rmtree(dir, ignore_errors=True)


if __name__ == "__main__":
    main()
