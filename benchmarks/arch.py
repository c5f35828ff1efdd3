"""Which network is quick enough on two cores, and which teaches most in a minute?

    python benchmarks/arch.py                        # rates: 5 minutes, two quiet cores
    python benchmarks/arch.py --seconds 60 --seeds 3     # and what they learn: hours

Rates are of the step of (1, 0, 0), of DI3CL, and of feeding alone, at the preset
`tiny`. What is learned in `seconds` of training steps is asked as the first run asks
it: patches of simulated land, frozen features. The land is of another seed than that
of training, and is no test land. Rows go to results/arch.json, each when it is there.
"""
import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from speed import number
from steps import set_up, train_step
from stopwatch import contest, machine, write_json
from tqdm.auto import tqdm

from di3cl.evaluate.probe import (
    embed,
    image_statistics,
    keep_common,
    predict_patches,
    score,
    sim_patches,
)
from di3cl.pretrain import new_model, pretrain
from di3cl.train.config import make_config
from di3cl.train.run import read_metrics

RESULTS = Path(__file__).parent / "results"
NETWORKS = (  # arch, width, stride
    ("resnet10", 1.0, 16),
    ("resnet10", 0.5, 16),
    ("resnet10", 0.5, 32),
    ("resnet10", 0.25, 16),
    ("resnet18", 0.5, 16),
    ("resnet18", 0.5, 32),
    ("resnet18", 0.375, 16),
    ("resnet18", 0.25, 16),
)


def rates(config, **kw):
    "Time the two steps and the feeding of a network: three rows."
    moco = set_up(replace(config, loss_weights=(1, 0, 0)), "cpu")
    step = set_up(config, "cpu")
    runners = {
        "step of (1, 0, 0)": lambda: train_step(*moco),
        "step": lambda: train_step(*step),
        "feeding": lambda: step[0][next(step[1])],
    }
    setting = f"{config.arch}, width {config.width:g}, stride {config.stride}"
    return contest("networks", setting, runners, config.batch, "pairs/s",
                   "x the speed of (1, 0, 0)", "cpu", **kw)


def validation_land():
    "Cut patches of simulated land that is neither trained on nor tested on."
    return keep_common(*(sim_patches(200, k, seed=1) for k in (0, 200)))


def ask(features, land):
    "Score a function of Patches: {way: [value, low, high]}."
    answers = predict_patches(features, *land)
    return {way: [round(x, 4) for x in score(y, land[1])[:3]]
            for way, y in answers.items()}


def teach(config, seconds, rate, seed, land):
    "Pre-train for so many seconds of steps: what was learned, and before."
    config = replace(config, pairs=max(config.batch, int(seconds * rate)))
    before = new_model(config, 1, seed).encoder
    with tempfile.TemporaryDirectory() as folder:
        model, preprocess = pretrain(
            "sim", Path(folder) / "run", seed=seed, device="cpu", **asdict(config))
        took = float(read_metrics(Path(folder) / "run")["seconds"][-1])
    return dict(
        seed=seed, pairs=config.pairs, seconds=round(took, 1),
        before=ask(lambda p: embed(before, preprocess, p), land),
        after=ask(lambda p: embed(model.encoder, preprocess, p), land))


def main(args):
    record = dict(command=f"python benchmarks/arch.py --seconds {args.seconds} "
                          f"--seeds {args.seeds}",
                  machine=machine(), settings=dict(args.set), networks=[])
    land = validation_land() if args.seconds else None
    if land:
        record["chance"] = round(1 / len(land[1].y.unique()), 4)
        record["image statistics"] = ask(image_statistics, land)
    for arch, width, stride in tqdm(NETWORKS[:args.first], unit="network"):
        config = make_config("tiny", **dict(args.set) | dict(
            arch=arch, width=width, stride=stride))
        rows = rates(config, repeats=args.repeats, seconds=30)
        found = dict(arch=arch, width=width, stride=stride,
                     rates=[row._asdict() for row in rows], learned=[])
        record["networks"].append(found)
        for row in rows:
            print(f"{row.setting:34}{row.name:20}{row.rate:8.1f}{row.ratio:8.2f}")
        for seed in range(args.seeds if args.seconds else 0):
            learned = teach(config, args.seconds, rows[1].rate, seed, land)
            found["learned"].append(learned)
            print(f"  seed {seed}: {learned}")
        write_json(args.out, record)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0,
                        help="of training steps, for each network and seed; 0: none")
    parser.add_argument("--seeds", type=int, default=3, help="of pre-training")
    parser.add_argument("--repeats", type=int, default=9, help="rounds of each race")
    parser.add_argument("--first", type=int, help="only so many of the networks")
    parser.add_argument("--set", type=number, action="append", default=[],
                        metavar="NAME=VALUE", help="a setting of the preset")
    parser.add_argument("--out", default=RESULTS / "arch.json", help="a .json file")
    main(parser.parse_args())
