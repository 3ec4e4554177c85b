"""Reading files: word vectors compared with gensim and `cat`, packed ones with `gzip`, the archive with pandas."""

import csv
import gzip as gz
import io
import subprocess
import tempfile
import time
import zipfile

import numpy as np


def made(bench, packed):
    """Makes a vector file with the headlines' words spread through it and with mantissas as short as those of GoogleNews."""
    import pandas
    words = bench.given.words
    path = bench.artifacts.parent / f"vectors-{words}.bin"
    if not path.exists():
        used = pandas.read_parquet(bench.artifacts / "embed" / "vocabulary.parquet").word.tolist()[:words]
        rng = np.random.default_rng(0)
        at = dict(zip(rng.permutation(words)[: len(used)].tolist(), used))
        partial = path.with_suffix(".partial")
        with open(partial, "wb", 1 << 20) as file:
            file.write(f"{words} 300\n".encode())
            for start in range(0, words, 10_000):
                n = min(10_000, words - start)
                block = (rng.standard_normal((n, 300)) * 0.1).astype("<f4")
                block = (block.view("<u4") & 0xFFFF0000).view("<f4")
                file.write(b"".join(at.get(start + i, f"word_{start + i}").encode() + b" " + block[i].tobytes() for i in range(n)))
        partial.rename(path)
    if packed:
        unpacked, path = path, path.with_suffix(".bin.gz")
        if not path.exists():
            partial = path.with_suffix(".partial")
            with open(unpacked, "rb") as file, gz.open(partial, "wb", 1) as out:
                while block := file.read(1 << 22):
                    out.write(block)
            partial.rename(path)
    return path


def embed(bench, path):
    with tempfile.TemporaryDirectory() as out:
        return bench.run([bench.target / "embed", "--artifacts", bench.artifacts, "--out", out, "--set", f"source={path}"])[0]


def to_nothing(bench, *command):
    return bench.run(command, stdout=subprocess.DEVNULL)[0]


def vectors(bench):
    path = made(bench, False)

    def gensim():
        from gensim.models import KeyedVectors
        start = time.perf_counter()
        KeyedVectors.load_word2vec_format(str(path), binary=True)
        return time.perf_counter() - start

    bench.compare("vectors", f"{bench.given.words:,} vectors", {
        "knockline": lambda: embed(bench, path), "gensim": gensim, "cat": lambda: to_nothing(bench, "cat", path),
    }, "cat")


def gzip(bench):
    path = made(bench, True)
    bench.compare("gzip", f"{bench.given.words:,} vectors, gzip", {"knockline": lambda: embed(bench, path), "gzip -dc": lambda: to_nothing(bench, "gzip", "-dc", path)})


def ingest(bench):
    """Compares whole stages, process start included, with functions in a Python process that has imported everything."""
    import pandas
    archive = bench.given.archive
    if not archive:
        print("ingest: skipped; give --archive")
        return
    names = ["id", "title", "url", "publisher", "category", "story", "hostname", "timestamp"]
    five = ["Reuters", "Huffington Post", "Businessweek", "Contactmusic.com", "Daily Mail"]

    def by_pandas(chosen):
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            with zipfile.ZipFile(archive) as file:
                raw = file.read("newsCorpora.csv")
            table = pandas.read_csv(io.BytesIO(raw), header=None, sep="\t", names=names, quoting=csv.QUOTE_NONE)
            if chosen:
                table = table[table.publisher.isin(chosen)]
            table.to_parquet(f"{out}/headlines.parquet")
            return time.perf_counter() - start

    def ours(*sets):
        with tempfile.TemporaryDirectory() as out:
            return bench.run([bench.target / "ingest", "--artifacts", out, "--out", f"{out}/ingest", "--set", f"source={archive}", *sets])[0]

    bench.compare("ingest", "archive, five publishers", {"knockline": ours, "pandas": lambda: by_pandas(five)})
    bench.compare("ingest", "archive, every row", {"knockline": lambda: ours("--set", 'publishers=["*"]'), "pandas": lambda: by_pandas(None)})
