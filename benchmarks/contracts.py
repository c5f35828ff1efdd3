"""Which contract suits a mixed bag of radar images: an experiment on validation ground.

    python benchmarks/contracts.py --data DATA --runs RUNS    # an hour on one core

Most free images are 8-bit pictures, whose radiometry is lost. Three arms of the same
network and length ask what is lost and won by taking them in: images in dB alone with
one mean and spread for the whole set ("fixed"); the same images, each by its own median
and spread ("relative"); and both kinds, which only the relative contract can take.
Frozen encoders, linear rule, all labels, the *validation* ground of Table II
(ground.py), three seeds; no test ground is looked at. Goes on where it was stopped;
rows go to results/contracts.json.
"""
import argparse
import json
import tomllib
from pathlib import Path

import ground
import numpy as np
import table_two
import torch
from stopwatch import machine
from tqdm.auto import tqdm

from di3cl.files import SarError
from di3cl.pretrain import pretrain

ARMS = {     # folders of tiles, contract
    "dB, fixed": (["db"], "fixed"),
    "dB, relative": (["db"], "relative"),
    "dB and 8 bits, relative": (["db", "digital"], "relative"),
}


def train(args, arm, seed):
    "Pre-train one arm, unless it is finished: its folder."
    out, (folders, contract) = args.runs / f"contracts/{arm}/{seed}", ARMS[arm]
    if not (out / "weights.safetensors").exists():
        tiles = ",".join(str(args.runs / "ground/tiles" / k) for k in folders)
        settings = args.plan["pretrain"] | dict(contract=contract, pairs=args.pairs)
        pretrain(tiles, out, seed=seed, device=args.device,
                 resume=(out / "config.json").exists(), checkpoint_seconds=60,
                 **settings)
    return out


def ask(args, source, task):
    "Score on validation ground; None where the contract refuses the images."
    try:
        found = table_two.frozen(args, source, task, "all", 0, "val")
    except SarError:
        return None
    return round(float(table_two.score_of(task, found.sum(0))), 4)


def main(args):
    ground.make(args.data, args.runs / "ground")
    table_two.make_random(args, 0)
    tasks = [name for name in ground.TASKS if name != "KOMPSAT-5"]
    scores = {arm: {task: [] for task in tasks} for arm in ARMS}
    rows = [(arm, seed) for seed in args.plan["seeds"] for arm in ARMS]
    for arm, seed in tqdm(rows, unit="run"):
        source = train(args, arm, seed)
        for task in tasks:
            scores[arm][task].append(ask(args, source, task))
    means = {arm: {task: None if None in found else round(float(np.mean(found)), 4)
                   for task, found in tasks.items()} for arm, tasks in scores.items()}
    record = dict(command=f"python benchmarks/contracts.py --pairs {args.pairs}",
                  machine=machine(), pretrain=args.plan["pretrain"],
                  seeds=args.plan["seeds"], scores=scores, means=means)
    table_two.write_json(args.results / "contracts.json", record)
    print(json.dumps(means, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the real data")
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--pairs", type=int, default=40_000, help="of views, an arm")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--results", type=Path, default=table_two.HERE / "results")
    args = parser.parse_args()
    args.plan = tomllib.loads((table_two.HERE / "table_two.toml").read_text())
    torch.set_num_threads(1)
    main(args)
