"""What the option `workers` costs in accuracy: the same nets by one to sixteen workers."""

import json
import shutil

SEEDS = [101, 102, 103, 104, 105]
WORKERS = [1, 2, 4, 8, 16]
NETS = {
    "single-layer, 10 epochs of batches of 1": ["net=slp"],
    "single-layer, 40 epochs of batches of 1": ["net=slp", "epochs=40"],
    "multi-layer, 100 epochs of batches of 64": ["net=mlp", "epochs=100", "lr=1e-3", "lr_min=1e-5"],
}


def workers(bench):
    artifacts = bench.artifacts.parent / "workers"
    shutil.rmtree(artifacts, ignore_errors=True)
    more = bench.headlines()
    for net, options in NETS.items():
        for count in WORKERS:
            sets = [*more, *(f"train.shared.{option}" for option in options), f"train.shared.workers={count}",
                    f"train.shared.seed={SEEDS[0]}", f"train.shared.seeds={SEEDS}"]
            bench.pipeline(artifacts, "--to", "train.shared", *(x for s in sets for x in ("--set", s)))
            metrics = json.loads((artifacts / "train.shared" / "metrics.json").read_text())
            epochs = [seed["epochs"] for seed in metrics["seeds"]]
            row = {"net": net, "workers": count, "spread": metrics["spread"], "epochs": sum(epochs) / len(epochs)}
            bench.results.setdefault("workers", []).append(row)
            print(net, count, json.dumps(metrics["spread"]["test"]), row["epochs"], flush=True)
