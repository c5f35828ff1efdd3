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
from stopwatch import machine, write_json
from tqdm.auto import tqdm

from di3cl.files import SarError

ARMS = {     # folders of tiles, contract
    "dB, fixed": (["db"], "fixed"),
    "dB, relative": (["db"], "relative"),
    "dB and 8 bits, relative": (["db", "digital"], "relative"),
}


def train(args, arm, seed):
    "Pre-train one arm, unless it is finished: its folder."
    out, (folders, contract) = args.runs / f"contracts/{arm}/{seed}", ARMS[arm]
    tiles = ",".join(str(args.runs / "ground/tiles" / k) for k in folders)
    settings = args.plan["pretrain"] | dict(contract=contract, pairs=args.pairs)
    table_two.finish(args, tiles, out, seed, settings)
    return out


def ask(args, source, task):
    "Score on validation ground; None where the contract refuses the images."
    try:
        return round(table_two.validate_on(args, source, task), 4)
    except SarError:
        return None


def rivals(args):
    "Score image statistics, and the best answer by lot, on the same ground."
    counts = {task: table_two.frozen(args, table_two.STATISTICS, task, "all", 0, "val")
              for task in table_two.VALIDATED}
    one = {task: found[None] for task, found in counts.items()}     # of one seed
    rows = {"image statistics": one,
            "chance": table_two.chance({table_two.STATISTICS: one})}
    return {name: {task: round(float(table_two.score_of(task, found.sum((0, 1)))), 4)
                   for task, found in tasks.items()} for name, tasks in rows.items()}


def main(args):
    ground.make(args.data, args.runs / "ground")
    table_two.make_random(args, 0)
    scores = {arm: {task: [] for task in table_two.VALIDATED} for arm in ARMS}
    rows = [(arm, seed) for seed in args.plan["seeds"] for arm in ARMS]
    for arm, seed in tqdm(rows, unit="run"):
        source = train(args, arm, seed)
        for task in table_two.VALIDATED:
            scores[arm][task].append(ask(args, source, task))
    means = {arm: {task: None if None in found else round(float(np.mean(found)), 4)
                   for task, found in tasks.items()} for arm, tasks in scores.items()}
    record = dict(command=f"python benchmarks/contracts.py --pairs {args.pairs}",
                  machine=machine(), pretrain=args.plan["pretrain"],
                  seeds=args.plan["seeds"], scores=scores, means=means,
                  rivals=rivals(args))
    write_json(args.results / "contracts.json", record)
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
