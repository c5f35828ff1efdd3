"""The encoder that is released: the best recipe of factors.py, beside its rivals.

    python benchmarks/factors.py train    --data DATA --runs RUNS
    python benchmarks/factors.py validate --data DATA --runs RUNS   # which is best?
    python benchmarks/release.py publish  --data DATA --runs RUNS   # -> release/
    python benchmarks/release.py score    --data DATA --runs RUNS   # -> release.json

It learns from images whose licences let weights be released, and is asked as the rows
of Table II are, on test ground. Beside it stands its twin, a recipe that saw as many
pairs of simulated scenes and nothing real. `score` goes on where it was stopped, so
remove RUNS/scores/NAME after a recipe was trained anew; with `--only NAME` one recipe
or rival is asked, and no file of results written, so that processes share the work.
"""
import json

import factors
import ground
import numpy as np
import pandas as pd
import table_two
from stopwatch import machine

from di3cl.weights import find_weights, load, read_label, save_weights

RELEASED, SIMULATED = "Released", "Simulated"
TWIN = "simulated, 400,000 pairs"     # as many of simulated scenes as the released saw
WEIGHTS = table_two.HERE.parent / "release/di3cl-radar.safetensors"
DATA = ("Sentinel-1 and AIRSAR images under open licences, and simulated scenes; "
        "see release/README.md")
RIVALS = *factors.RIVALS, SIMULATED


def best_recipe(judged):
    "The best of factors.json that has seen real radar."
    recipes, tried = judged["recipes"], judged["recipes"]["tried"]
    real = [name for name in tried if tried[name].get("images") != "simulated"]
    return max(real, key=lambda name: factors.judge(recipes, judged["scores"][name]))


def publish(args):
    "Write the best to release/, with words for data in place of folders."
    run = factors.folder(args, best_recipe(args.judged))
    label, (encoder, preprocess) = read_label(find_weights(run)), load(run)
    made = {k: label["provenance"][k] for k in ("seed", "pairs", "fingerprint")}
    save_weights(encoder, WEIGHTS, preprocess, label["config"], data=DATA, **made)


def learned_from(args):
    "How many images each set gave, one channel each."
    names = [path.stem for path in (args.runs / "ground/tiles").rglob("*.tif")]
    sets = [folder.replace("/", "_") for folder in (*ground.OPEN, "flevoland")]
    return {one: sum(name.startswith(one) for name in names) for one in sets}


def curves(run, points=60):
    "What the log of a run says, as means over as many parts of it."
    log = pd.read_csv(run / "metrics.csv")[["step", "total", "found"]]
    part = np.arange(len(log)) * points // len(log)
    return log.groupby(part).mean().round(4).to_dict("list")


def score(args):
    best, seeds = best_recipe(args.judged), args.plan["seeds"]
    names = {best: RELEASED, TWIN: SIMULATED}
    rows = table_two.sources(args)
    rows = {name: rows[name] for name in factors.RIVALS if name in rows}
    for name, source in {TWIN: factors.folder(args, TWIN), best: WEIGHTS}.items():
        rows[name] = [source] * len(seeds)
    rows = {name: rows[name] for name in args.only or rows}
    asked = table_two.ask_all(args, rows)
    if args.only:
        return                     # another process will add up
    columns = {}
    for name, found in asked.items():
        found = {names.get(row, row): counts for row, counts in found.items()}
        columns[name] = table_two.summarise(found, args, RIVALS)["rows"]
    table_two.write_columns(args, "release.json", columns, dict(
        command="python benchmarks/release.py score", machine=machine(), candidate=best,
        plan=args.plan, images=learned_from(args),
        curves=curves(factors.folder(args, best))))


def main():
    steps = dict(publish=publish, score=score)
    args = table_two.read_options(__doc__, steps)
    args.judged = json.loads((args.results / "factors.json").read_text())
    steps[args.what](args)


if __name__ == "__main__":
    main()
