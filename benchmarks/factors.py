"""What makes an encoder better: recipes, one thing changed at a time.

    python benchmarks/factors.py train    --data DATA --runs RUNS
    python benchmarks/factors.py validate --data DATA --runs RUNS   # -> factors.json

Each recipe learns from the images of ground.py, or from simulated scenes, or from both.
Frozen, it is asked on ground that is not test ground. Both steps pass over what is
finished, so remove a recipe's folder, and its scores beside it, to have it made anew.
With `--only NAME` one recipe is done, and no file of results written, so that processes
can share the work. What is tried, and by what it is judged, stands in factors.toml.
"""
import json
import tomllib
from functools import partial

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
    "The tiles of a recipe, its seed, and its settings."
    tried = args.recipes["pretrain"] | args.recipes["tried"][name]
    tiles = dict(real=table_two.tiles_of(args), simulated="sim")
    tiles["both"] = f"sim,{tiles['real']}"
    images, seed = tried.pop("images"), tried.pop("seed", 0)
    return tiles[images], seed, args.plan["pretrain"] | tried


def train(args):
    ground.make(args.data, args.runs / "ground")
    for name in args.only or args.recipes["tried"]:
        tiles, seed, settings = recipe(args, name)
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


def asked_pixels(read, labelled, ids, group):
    "Pixels that are asked, of every eighth row and column: `Pixels`."
    batches = thinned(table_two.in_batches(labelled, ids, group))
    return collect_pixels(read, batches, n=labelled.size**2)


def described(args, name, features, labelled, ids, pixels):
    "Describe tiles: patches of one class, or what `pixels` chooses in them: `Pixels`."
    group = table_two.linked(args, name, labelled, ids)
    if name != "scenes":
        return pixels(features, labelled, ids, group)
    patches = table_two.as_patches(labelled, ids, group)
    return Pixels(features(patches), patches.y, patches.group)


def ask(args, source, name, sizes):
    "Score a frozen encoder: {number of labelled tiles: [score of each draw]}."
    draws = [(size, draw) for size in sizes for draw in range(args.recipes["draws"])]
    counts = dict.fromkeys([*draws, ("all", 0)], 0)
    for labelled, learn, held in held_out(args, name):
        features, seen = table_two.open_source(args, source, name, labelled, learn)
        describe = partial(described, args, name, features, seen)
        test, n = describe(held, asked_pixels), len(seen.classes)
        for size, draw in counts:
            some = learn if size == "all" else few(seen, learn, size, draw)
            drawn = partial(table_two.known_pixels, seed=draw)
            rule = fit_linear(*describe(some, drawn))
            counts[size, draw] += confusions(rule(test.x), test, n).sum(0)
    scores = {}
    for (size, _), c in counts.items():
        score = float(table_two.score_of(name, c))
        scores.setdefault(str(size), []).append(round(score, 4))
    return scores


def chance(args):
    "Score the best answer that never looks, one class everywhere: {task: score}."
    truth = {name: count_classes(args, name) for name in ground.TASKS}
    best = table_two.chance(dict(truth=truth))
    return {name: round(float(table_two.score_of(name, counts[0, 0])), 4)
            for name, counts in best.items()}


def count_classes(args, name):
    "Count what is asked, as if all were right: (1, 1, K, K)."
    counts = 0
    for labelled, _, held in held_out(args, name):
        y = described(
            args, name, no_features(name), labelled, held, asked_pixels).y
        counts = counts + y.bincount(minlength=len(labelled.classes))
    return counts.diag()[None, None]


def no_features(name):
    "What describes nothing, in the place of an encoder."
    if name == "scenes":
        return lambda patches: patches.y[:, None]
    return lambda image: lambda where: where


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
    for name in args.only or sources:
        path = args.runs / f"factors/{name}.json"
        if not path.exists():
            sizes = args.recipes["curve" if name in args.recipes["drawn"] else "few"]
            write_json(path, {task: ask(args, sources[name], task, sizes)
                              for task in ground.TASKS})
        scores[name] = json.loads(path.read_text())
        print(f"{judge(args.recipes, scores[name]):.4f} {name}", flush=True)
    if args.only:
        return
    write_json(args.results / "factors.json", dict(
        command="python benchmarks/factors.py validate", machine=machine(),
        recipes=args.recipes, scores=scores, chance=chance(args)))


def main():
    steps = dict(train=train, validate=validate)
    args = table_two.read_options(__doc__, steps)
    args.recipes = tomllib.loads((table_two.HERE / "factors.toml").read_text())
    steps[args.what](args)


if __name__ == "__main__":
    main()
