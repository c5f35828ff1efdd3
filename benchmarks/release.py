"""The encoder that is released: try recipes, keep the best, score it beside its rivals.

    python benchmarks/release.py train    --data DATA --runs RUNS
    python benchmarks/release.py validate --data DATA --runs RUNS   # -> recipes.json
    python benchmarks/release.py score    --data DATA --runs RUNS   # -> release.json

It learns from the images of ground.py, whose licences let weights be released, and is
asked as the rows of Table II are. `train` and `validate` look at no test ground;
`score` takes the best candidate, writes it to release/, pre-trains a twin on
simulated scenes, and asks both for their scores on test ground, once. All go on where
they were stopped. What is tried stands in release.toml.
"""
import json
import tomllib

import ground
import numpy as np
import pandas as pd
import table_two
import torch
from sklearn.model_selection import GroupKFold
from stopwatch import machine, write_json

from di3cl.tasks.finetune import Areas
from di3cl.weights import find_weights, load, read_label, save_weights

RELEASED, SIMULATED = "Released", "Simulated"
WEIGHTS = table_two.HERE.parent / "release/di3cl-radar.safetensors"
DATA = "Sentinel-1 and AIRSAR images under open licences; see release/README.md"
RIVALS = table_two.RANDOM, table_two.STATISTICS, table_two.IMAGENET, SIMULATED


def folder(args, name):
    "The run of a candidate."
    return args.runs / "release" / name


def recipe(args, name):
    "The settings of a candidate."
    tried = args.recipes["pretrain"] | args.recipes["candidates"][name]
    return args.plan["pretrain"] | tried


def train(args):
    ground.make(args.data, args.runs / "ground")
    for name in args.only or args.recipes["candidates"]:
        run = folder(args, name)
        table_two.finish(args, table_two.tiles_of(args), run, 0, recipe(args, name))


def held_together(args, name, labelled, ids):
    "Number what a fold holds out as a whole: images, or parts of one."
    if name == "scenes" or name.startswith("Flevoland"):
        return table_two.linked(args, name, labelled, ids)
    return torch.tensor([labelled.spots[i].image for i in ids])


def folds(args, name):
    "Share out the ground that is not test ground: each fold is held out in turn."
    labelled, _ = table_two.open_task(args, name, "all", 0)
    ids = [i for i, spot in enumerate(labelled.spots) if spot.part != "test"]
    group = held_together(args, name, labelled, ids)
    n = min(args.recipes["folds"], len(group.unique()))
    for learn, held in GroupKFold(n).split(ids, groups=group):
        yield labelled, Areas([ids[k] for k in learn], [], [ids[k] for k in held])


def ask(args, source, name):
    "Score a frozen encoder on all ground but the test ground, by folds."
    counts = 0
    for labelled, areas in folds(args, name):
        counts += table_two.probe(args, source, name, labelled, areas, 0).sum(0)
    return round(float(table_two.score_of(name, counts)), 4)


def mean_of(args, scores):
    "By what recipes are judged."
    return np.mean([scores[task] for task in args.recipes["judged"]])


def validate(args):
    for seed in args.plan["seeds"]:
        table_two.make_random(args, seed)
    sources = {name: folder(args, name) for name in args.recipes["candidates"]}
    rows = table_two.sources(args)
    sources |= {name: rows[name][0] for name in RIVALS if name in rows}
    runs = rows.get("SimCLR", ())              # of Table II: how far apart are seeds?
    sources |= {f"SimCLR {k}": run for k, run in enumerate(runs)}
    twins = [f"simulated {name}" for name in args.recipes["candidates"]]
    sources |= {twin: folder(args, twin) for twin in twins
                if (folder(args, twin) / "weights.safetensors").exists()}
    scores = {}
    for name, source in sources.items():
        path = args.runs / f"release/{name}.json"
        if not path.exists():
            write_json(path, {task: ask(args, source, task) for task in ground.TASKS})
        scores[name] = json.loads(path.read_text())
        print(f"{mean_of(args, scores[name]):.4f} {name}", flush=True)
    write_json(args.results / "recipes.json", dict(
        command="python benchmarks/release.py validate", machine=machine(),
        recipes=args.recipes, scores=scores))


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


def publish(run):
    "Write the weights of a run to release/, with words for data in place of folders."
    label, (encoder, preprocess) = read_label(find_weights(run)), load(run)
    made = {k: label["provenance"][k] for k in ("seed", "pairs", "fingerprint")}
    save_weights(encoder, WEIGHTS, preprocess, label["config"], data=DATA, **made)


def score(args):
    judged = json.loads((args.results / "recipes.json").read_text())
    best = max(judged["recipes"]["candidates"],
               key=lambda name: mean_of(args, judged["scores"][name]))
    twin = folder(args, f"simulated {best}")
    publish(folder(args, best))
    table_two.finish(args, "sim", twin, 0, recipe(args, best))
    seeds = args.plan["seeds"]
    rows = table_two.sources(args)
    rows = {name: rows[name] for name in RIVALS if name in rows}
    rows |= {SIMULATED: [twin] * len(seeds), RELEASED: [WEIGHTS] * len(seeds)}
    columns = {name: table_two.summarise(found, args, RIVALS)["rows"]
               for name, found in table_two.ask_all(args, rows).items()}
    table_two.write_columns(args, "release.json", columns, dict(
        command="python benchmarks/release.py score", machine=machine(), candidate=best,
        plan=args.plan, recipes=judged["recipes"], images=learned_from(args),
        curves=curves(folder(args, best))))


def main():
    steps = dict(train=train, validate=validate, score=score)
    args = table_two.read_options(__doc__, steps)
    args.recipes = tomllib.loads((table_two.HERE / "release.toml").read_text())
    steps[args.what](args)


if __name__ == "__main__":
    main()
