"""Every stage but training, on the whole archive with every publisher's rows: its time and peak memory, and the time of a floor.

A floor does the minimum that any such stage has to do, with other tools: for ingest, unpacking with igzip, in memory; for split, reading and
writing the same tables with pyarrow, unshuffled; for embed, reading the vector file and the titles; for tensors, copying its files; for report,
reading its files. Memory is the peak of a process's resident set, mapped files included."""

import shutil
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

STAGES = ["ingest", "split", "embed", "tensors", "report"]


def timed(what, *arguments):
    start = time.perf_counter()
    what(*arguments)
    return time.perf_counter() - start


def stages(bench):
    from isal import isal_zlib
    from pyarrow import parquet
    given = bench.given
    if not (given.archive and given.vectors):
        print("stages: skipped; give --archive and --vectors")
        return
    sources = {"ingest": [f"source={given.archive}", 'publishers=["*"]'], "embed": [f"source={given.vectors}"]}
    with zipfile.ZipFile(given.archive) as file:
        entry = file.getinfo("newsCorpora.csv")
    packed = Path(given.archive).read_bytes()
    names = (int.from_bytes(packed[entry.header_offset + at:][:2], "little") for at in (26, 28))
    packed = packed[entry.header_offset + 30 + sum(names):][: entry.compress_size]
    folder = bench.artifacts.parent / "stages"
    shutil.rmtree(folder, ignore_errors=True)
    bench.pipeline(folder, "--set", 'ingest.publishers=["*"]', "--set", "train.mlp.epochs=1")

    def copies(table):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            for part in ("train", "valid", "test"):
                whole = parquet.read_table(table / f"{part}.parquet")
                parquet.write_table(whole, f"{out}/{part}.parquet", compression="zstd", compression_level=1, row_group_size=65_536)

    def copy(files):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            for at, file in enumerate(files):
                shutil.copyfile(file, f"{out}/{at}")

    def read(files):
        block = bytearray(1 << 20)
        for file in files:
            with open(file, "rb", 0) as file:
                while file.readinto(block):
                    pass

    inputs = [folder / node / name for node in ("tensors", "train.slp", "train.mlp") for name in ("metrics.json", "manifest.json")]
    floors = {
        "ingest": lambda: timed(isal_zlib.decompress, packed, -15, entry.file_size),
        "split": lambda: timed(copies, folder / "split"),
        "embed": lambda: timed(lambda: [read([given.vectors]), *(parquet.read_table(folder / "split" / f"{p}.parquet", columns=["title"]) for p in ("train", "valid", "test"))]),
        "tensors": lambda: timed(copy, sorted((folder / "tensors").glob("*.safetensors"))),
        "report": lambda: timed(read, [file for file in inputs if file.exists()]),
    }

    memory = {stage: [] for stage in STAGES}

    def stage(name):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            sets = [x for source in sources.get(name, []) for x in ("--set", source)]
            seconds, peak = bench.watch([bench.target / name, "--artifacts", folder, "--out", f"{out}/{name}", *sets], "VmHWM")
        memory[name].append(peak)
        return seconds

    for name in STAGES:
        bench.compare("stages", name, {"knockline": lambda: stage(name), "floor": floors[name]}, "floor")
        bench.results["stages"][-1]["memory_mb"] = statistics.median(memory[name])
        print(f"{'':<28} {statistics.median(memory[name]):.0f} MB")
    shutil.rmtree(folder)
