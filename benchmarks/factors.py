"""What makes an encoder better: recipes, one thing changed at a time.

    python benchmarks/factors.py train    --data DATA --runs RUNS
    python benchmarks/factors.py validate --data DATA --runs RUNS   # -> factors.json

Each recipe learns from the images of ground.py, or from simulated scenes, or from both.
Frozen, it is asked on ground that is not test ground. Both steps pass over what is
finished; `--only NAME` does one recipe, so that processes can share the work. What is
tried, and by what it is judged, stands in factors.toml.
"""
import json
import tomllib

import ground
import numpy as np
import table_two
import torch
from stopwatch import machine, write_json

from di3cl.evaluate.dense import Pixels, collect_pixels
from di3cl.evaluate.probe import confusions, fit_linear
from di3cl.labels import IGNORE, few

RIVALS = table_two.RANDOM, table_two.STATISTICS, table_two.IMAGENET


def folder(args, name):
    "The run of a recipe."
    return args.runs / "factors" / name


def recipe(args, name):
    "The tiles of a recipe, and its settings."
    tried = args.recipes["pretrain"] | args.recipes["tried"][name]
    tiles = dict(real=table_two.tiles_of(args), simulated="sim")
    tiles["both"] = f"sim,{tiles['real']}"
    return tiles[tried.pop("images")], args.plan["pretrain"] | tried


def train(args):
    ground.make(args.data, args.runs / "ground")
    for name in args.only or args.recipes["tried"]:
        tiles, settings = recipe(args, name)
        seed = settings.pop("seed", 0)
        table_two.finish(args, tiles, folder(args, name), seed, settings)


def held_out(args, name):
    "Yield (labelled, learn, held): tiles of the ground that is not test ground."
    labelled, _ = table_two.open_task(args, name, "all", 0)
    spots = {i: spot for i, spot in enumerate(labelled.spots) if spot.part != "test"}
    if name not in args.recipes["by_image"]:
        sides = [[i for i, spot in spots.items() if spot.part == part]
                 for part in ("train", "val")]
        yield labelled, *sides
        return
    for image in sorted({spot.image for spot in spots.values()}):
        yield (labelled, [i for i, spot in spots.items() if spot.image != image],
               [i for i, spot in spots.items() if spot.image == image])


def thinned(batches, every=8):
    "Leave a label to every so many-th row and column only."
    for image, label, group in batches:
        some = torch.full_like(label, IGNORE)
        rows = slice(every // 2, None, every)
        some[:, rows, rows] = label[:, rows, rows]
        yield image, some, group


def samples(args, name, features, labelled, ids, seed=None):
    "Describe what is learned from, by a seed; or, without one, all that is asked."
    group = table_two.linked(args, name, labelled, ids)
    if name == "scenes":
        patches = table_two.as_patches(labelled, ids, group)
        return Pixels(features(patches), patches.y, group)
    if seed is not None:
        return table_two.known_pixels(features, labelled, ids, group, seed)
    batches = thinned(table_two.in_batches(labelled, ids, group))
    return collect_pixels(features, batches, n=labelled.size**2)


def ask(args, source, name, sizes):
    "Score a frozen encoder: {number of labelled tiles: [score of each draw]}."
    draws = [(size, draw) for size in sizes for draw in range(args.recipes["draws"])]
    counts = dict.fromkeys([*draws, ("all", 0)], 0)
    for labelled, learn, held in held_out(args, name):
        features, seen = table_two.open_source(args, source, name, labelled, learn)
        asked, n = samples(args, name, features, seen, held), len(seen.classes)
        for size, draw in counts:
            some = learn if size == "all" else few(seen, learn, size, draw)
            known = samples(args, name, features, seen, some, draw)
            found = confusions(fit_linear(*known)(asked.x), asked, n)
            counts[size, draw] += found.sum(0)
    scores = {}
    for (size, _), c in counts.items():
        score = float(table_two.score_of(name, c))
        scores.setdefault(str(size), []).append(round(score, 4))
    return scores


def means(recipes, scores):
    "{number of labelled tiles: mean over draws and the tasks that are judged by}."
    judged = [scores[task] for task in recipes["judged"]]
    return {size: float(np.mean([np.mean(found[size]) for found in judged]))
            for size in judged[0]}


def judge(recipes, scores):
    "What decides: the mean of eight labelled tiles and of all."
    found = means(recipes, scores)
    return (found["8"] + found["all"]) / 2


def validate(args):
    for seed in args.plan["seeds"]:
        table_two.make_random(args, seed)
    sources = {name: folder(args, name) for name in args.recipes["tried"]}
    rows = table_two.sources(args)
    sources |= {name: rows[name][0] for name in RIVALS if name in rows}
    scores = {}
    for name, source in sources.items():
        path = args.runs / f"factors/{name}.json"
        if not path.exists():
            sizes = args.recipes["curve" if name in args.recipes["drawn"] else "few"]
            write_json(path, {task: ask(args, source, task, sizes)
                              for task in ground.TASKS})
        scores[name] = json.loads(path.read_text())
        print(f"{judge(args.recipes, scores[name]):.4f} {name}", flush=True)
    write_json(args.results / "factors.json", dict(
        command="python benchmarks/factors.py validate", machine=machine(),
        recipes=args.recipes, scores=scores))


def main():
    steps = dict(train=train, validate=validate)
    args = table_two.read_options(__doc__, steps)
    args.recipes = tomllib.loads((table_two.HERE / "factors.toml").read_text())
    steps[args.what](args)


if __name__ == "__main__":
    main()
