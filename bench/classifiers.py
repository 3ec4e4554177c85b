"""Whole classifiers, from cached parts to a trained one: knockline's nets, fastText, Vowpal Wabbit, scikit-learn, and two Rust crates.

Every option was chosen on valid, with split seeds 1 to 10. The figures are those of test, for split seeds 101 to 110, which no choice has seen: mean and
standard deviation of the accuracy, and the median of the seconds from the parts of `split` to a trained classifier, features included."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

SEEDS = range(101, 111)


class Parts:
    """The texts and labels of a split, as every contender gets them."""

    def __init__(self, artifacts):
        import pandas
        self.artifacts = artifacts
        tables = {part: pandas.read_parquet(artifacts / "split" / f"{part}.parquet", columns=["title", "category"]) for part in ("train", "valid", "test")}
        # Data that comes without a test part is scored on valid, on which nothing was chosen then.
        self.scored = "test" if len(tables["test"]) else "valid"
        self.texts = {part: table.title.tolist() for part, table in tables.items()}
        self.labels = {part: table.category.tolist() for part, table in tables.items()}

    def accuracy(self, predicted):
        right = sum(a == b for a, b in zip(predicted, self.labels[self.scored], strict=True))
        return right / len(predicted)


def knockline(bench, run, *sets):
    """Trains the run by `xtask pipeline`, everything after `split` included."""
    def contend(parts):
        folder = bench.artifacts.parent / "from-split"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(parts.artifacts, folder)
        command = [bench.target / "xtask", "pipeline", "--to", run, "--artifacts", folder, "--set", "cache.remote=none"]
        seconds, _ = bench.run([*command, *(x for s in [*parts.sets, *sets] for x in ("--set", s))])
        return seconds, json.loads((folder / run / "metrics.json").read_text())[parts.scored]["accuracy"]
    return contend


def features(char=True):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion
    words = TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 6), sublinear_tf=True)
    return FeatureUnion([("words", words), ("characters", characters)] if char else [("words", words)])


def sklearn(make):
    def contend(parts):
        start = time.perf_counter()
        of, model = features(), make()
        model.fit(of.fit_transform(parts.texts["train"]), parts.labels["train"])
        seconds = time.perf_counter() - start
        return seconds, parts.accuracy(model.predict(of.transform(parts.texts[parts.scored])))
    return contend


@contextlib.contextmanager
def quiet():
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def lower(text):
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def fasttext_file(parts, part, folder):
    file = folder / f"fasttext-{part}.txt"
    file.write_text("".join(f"__label__{label} {lower(text)}\n" for text, label in zip(parts.texts[part], parts.labels[part])))
    return file


def fasttext(seconds=None, **options):
    """fastText as its tutorial uses it: texts in lower case without punctuation. With `seconds`, its autotune on valid."""
    def contend(parts):
        import fasttext
        folder = parts.artifacts.parent
        train, valid = fasttext_file(parts, "train", folder), fasttext_file(parts, "valid", folder)
        start = time.perf_counter()
        tuned = {"autotuneValidationFile": str(valid), "autotuneDuration": seconds} if seconds else {}
        # Its progress goes to the process's stderr.
        with quiet():
            model = fasttext.train_supervised(str(train), thread=os.cpu_count(), verbose=0, **options, **tuned)
        took = time.perf_counter() - start
        predicted, _ = model.predict([lower(text) for text in parts.texts[parts.scored]])
        return took, parts.accuracy([label[0].removeprefix("__label__") for label in predicted])
    return contend


def fasttext_crate(peers):
    """The Rust crate `fasttext`, with the options of `fasttext`."""
    def contend(parts):
        folder = parts.artifacts.parent
        files = [fasttext_file(parts, part, folder) for part in ("train", parts.scored)]
        result = json.loads(subprocess.check_output([peers, "fasttext", *files, str(os.cpu_count())]))
        return result["seconds"], result["accuracy"]
    return contend


def liblinear_crate(bench, peers):
    """The Rust crate `liblinear`, bindings of the C++ library, on the features of the stage `ngrams`; their time counts, too."""
    def contend(parts):
        folder = bench.artifacts.parent / "from-split"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(parts.artifacts, folder)
        command = [bench.target / "xtask", "pipeline", "--to", "ngrams", "--artifacts", folder, "--set", "cache.remote=none"]
        seconds, _ = bench.run([*command, *(x for s in parts.sets for x in ("--set", s))])
        files = [folder / "ngrams" / f"{part}.safetensors" for part in ("train", parts.scored)]
        result = json.loads(subprocess.check_output([peers, "liblinear", *files, "1"]))
        return seconds + result["seconds"], result["accuracy"]
    return contend


def built(bench):
    """The program of bench/peers."""
    source, target = Path(__file__).parent / "peers", bench.target.parent / "bench" / "peers"
    subprocess.run(["cargo", "build", "--quiet", "--release", "--manifest-path", source / "Cargo.toml", "--target-dir", target], check=True)
    return target / "release" / "peers"


def vowpal_wabbit(*options):
    def contend(parts):
        from vowpalwabbit import pyvw
        names = sorted(set(parts.labels["train"]))
        number = {name: i + 1 for i, name in enumerate(names)}
        line = lambda text: "| " + lower(text)
        lines = [f"{number[label]} {line(text)}" for text, label in zip(parts.texts["train"], parts.labels["train"])]
        file = parts.artifacts.parent / "vw.txt"
        file.write_text("\n".join(lines) + "\n")
        cache, model = file.with_suffix(".cache"), file.with_suffix(".model")
        cache.unlink(missing_ok=True)
        start = time.perf_counter()
        learner = pyvw.Workspace(f"--oaa {len(names)} -d {file} --cache_file {cache} -f {model} --quiet " + " ".join(options))
        learner.finish()
        took = time.perf_counter() - start
        tester = pyvw.Workspace(f"-i {model} -t --quiet")
        predicted = [names[int(tester.predict(line(text))) - 1] for text in parts.texts[parts.scored]]
        tester.finish()
        return took, parts.accuracy(predicted)
    return contend


def contenders(bench):
    from sklearn.linear_model import SGDClassifier
    from sklearn.svm import LinearSVC
    peers = built(bench)
    return {
        "knockline, linear": knockline(bench, "train.linear"),
        "without folds": knockline(bench, "train.alone", "train.alone.net=linear"),
        "knockline, best": knockline(bench, "train.best"),
        "knockline, bow": knockline(bench, "train.bow", "train.bow.net=bow"),
        "knockline, dan": knockline(bench, "train.dan", "train.dan.net=dan"),
        "LinearSVC": sklearn(lambda: LinearSVC(C=2)),
        "SGDClassifier": sklearn(lambda: SGDClassifier(alpha=1e-4, random_state=0)),
        "fastText": fasttext(lr=0.5, epoch=25, wordNgrams=2, dim=100, seed=1),
        "fastText, autotune": fasttext(seconds=10, seed=1),
        "crate fasttext": fasttext_crate(peers),
        "crate liblinear": liblinear_crate(bench, peers),
        "Vowpal Wabbit": vowpal_wabbit("--ngram 2", "--affix +3,-3", "--passes 10", "-b 24", "--loss_function logistic", "--holdout_off"),
    }


def measure(bench, what, splits):
    """Every contender on every split; `splits` are the artifacts' folders and the options that make them."""
    rows = {}
    for artifacts, sets in splits:
        bench.pipeline(artifacts, "--to", "split", *(x for s in sets for x in ("--set", s)))
        parts = Parts(artifacts)
        parts.sets = [*bench.sources, *sets]
        for who, contend in contenders(bench).items():
            seconds, accuracy = contend(parts)
            rows.setdefault(who, []).append((seconds, accuracy))
    for who, all in rows.items():
        seconds, accuracies = zip(*all)
        row = {"what": what, "who": who, "accuracies": accuracies, "seconds": seconds, "mean": statistics.mean(accuracies),
               "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None, "median": statistics.median(seconds)}
        bench.results.setdefault("classifiers", []).append(row)
        spread = f" ± {row['deviation']:.4f}" if row["deviation"] is not None else ""
        print(f"{what:<14} {who:<20} accuracy {row['mean']:.4f}{spread}; {row['median']:.2f} s", flush=True)


def classifiers(bench):
    given, folder = bench.given, bench.artifacts.parent / "classifiers"
    shutil.rmtree(folder, ignore_errors=True)
    more = bench.headlines()
    measure(bench, "headlines", [(folder / f"random-{seed}", [f"split.seed={seed}", *more]) for seed in SEEDS])
    if given.texts or given.archive:
        whole = [(folder / f"story-{seed}", [f"split.seed={seed}", "split.group_by=story", *more]) for seed in SEEDS]
        measure(bench, "whole stories", whole)
    if given.sst2:
        sets = [f"ingest.files={given.sst2}/*.tsv", "split.given.train=train.tsv", "split.given.valid=dev.tsv", 'split.parts=["train", "valid"]', *more[:1]]
        measure(bench, "SST-2, dev", [(folder / "sst2", sets)])
