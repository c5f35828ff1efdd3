"""The pilot: which parts of DI3CL help a small encoder, on which task, and by how much?

    python benchmarks/pilot.py train --runs RUNS
        # resumable; one arm after the other, about 20 minutes each on one core
    python benchmarks/pilot.py train --runs RUNS --only DI3CL
        # one arm: two processes can share the work
    python benchmarks/pilot.py tune  --runs RUNS --data DATA
        # frozen and full fine-tuning; resumable
    python benchmarks/pilot.py score --runs RUNS --data DATA
        # -> benchmarks/results/pilot.json

`--first` names the runs of first_question.py: with it two more starts are compared,
frozen, that had an eighth of the pairs, on simulated and on real tiles. DATA is a
folder laid out as the README of our trial data says (KOMPSAT-5 water, AIRSAR San
Francisco); it is not part of the project. Without --data only simulated scenes are
used. The six arms see nothing of DATA in pre-training. Region weight 0.5 was chosen by
the test scores of first_question.py, whose San Francisco scene is the one of this
pilot; steps, learning rate and decoders by trials on training ground that were not
kept.
"""

import argparse
import csv
import itertools
import logging
import platform
import warnings
from pathlib import Path

import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from sklearn.ensemble import HistGradientBoostingClassifier
from stopwatch import write_json
from testing import write_raster

from di3cl.evaluate.metrics import match_scores, segmentation_report
from di3cl.evaluate.report import Tally, sample_images, score_functions, tally
from di3cl.labels import IGNORE, by_group, few, open_labels, split
from di3cl.pretrain import new_model, pretrain
from di3cl.sar import Preprocess, read_sar, to_unit
from di3cl.tasks.finetune import Areas, fit, make_learner
from di3cl.tasks.segment import Segmenter, make_loss, pyramid
from di3cl.train.config import FinetuneConfig, make_config
from di3cl.weights import load_weights

ARMS = {  # settings of the tiny preset that differ; `random` needs no run
    "MoCo v2": dict(loss_weights=(1, 0, 0)),
    "+ DI": dict(loss_weights=(1, 0, 5)),
    "+ CC, published": dict(loss_weights=(0.8, 0.2, 0)),
    "+ CC, map": dict(loss_weights=(0.8, 0.2, 0), contour="map"),
    "DI3CL": dict(),
    "region 0.5": dict(
        loss_weights=(0.8, 0.2, 0.5)
    ),  # the better setting of the first honest question
}

# random weights, but batch norm's statistics from the training tiles, as pre-training
# leaves them to the others
FITTED = "random, norms fitted"
# a chessboard: what the scores of outlines give for drawing all that can be drawn
EDGES = "edges everywhere"
BRIGHTNESS, WINDOWS = (
    "brightness alone",
    (1, 5, 15, 45),
)
# no network: what the mean backscatter about a pixel tells; not asked of roads,
# which are a shape
EXTRA = {
    "region 0.5, 20,000 pairs": "simulated",
    "region 0.5, 20,000 real pairs": "real",
}  # of the first honest question, a run a seed: budget and source


def folder(args, arm):
    return args.runs / arm.replace(" ", "_").replace(",", "")


def train(args):
    for arm, settings in ARMS.items():
        out = folder(args, arm)
        if (out / "weights.safetensors").exists() or args.only not in (None, arm):
            continue
        print(f"--- {arm}", flush=True)
        pretrain(
            "sim",
            out,
            "tiny",
            width=1.0,   # as the preset was when this was run
            seed=0,
            resume=(out / "config.json").exists(),
            checkpoint_seconds=60,
            pairs=args.pairs,
            n_sim=8192,
            **settings,
        )


# ---------------------------------------------------------------- the tasks

LABELS, SEEDS = (8, 64), range(3)
FROZEN = FinetuneConfig(
    mode="frozen", steps=150, checks=1, crop=64, lr=3e-3
)  # its crop is not used: cached features are of whole tiles
DECODERS = {
    "road": "unet"
}
# else UPerNet; its maps are at a quarter of the resolution, and roads are two
# pixels wide
FULL = FinetuneConfig(steps=200, checks=1, crop=64, lr=5e-4)
FULL_ARMS, FULL_TASKS = (
    ("random", "MoCo v2", "DI3CL"),
    ("landcover", "water, KOMPSAT-5"),
)


def kompsat(args):
    "Image and mask pairs of KOMPSAT-5 as 13 wants them."
    out = args.runs / "k5"
    for p in (
        sorted((args.data / "k5_water/img").glob("*.tif")) if not out.exists() else []
    ):
        for here, there in (
            (p, f"images/{p.stem}.tif"),
            (args.data / f"k5_water/mask/{p.stem}_label.tif", f"masks/{p.stem}.tif"),
        ):
            (out / there).parent.mkdir(parents=True, exist_ok=True)
            (out / there).symlink_to(here.resolve())
    (out / "legend.csv").write_text("value,class\n0,land\n255,water\n")
    return open_labels(out, "water", 128, "amplitude")


def san_francisco(args):
    out, data = args.runs / "sf", args.data / "sf_airsar_landcover"
    if not (out / "T11.tif").exists():
        with rasterio.open(data / "label.png") as f:
            write_raster(out / "T11_mask.tif", f.read(1))
        write_raster(
            out / "T11.tif",
            read_sar(data / "T11.bin", unit="intensity").data.numpy(),
            tags=dict(unit="intensity"),
        )
    (out / "legend.csv").write_text(
        """value,class\n0,unlabelled\n1,bare
        soil\n2,mountain\n3,water\n4,urban\n5,vegetation\n"""
    )
    return open_labels(out, "landcover", 64)


def tasks(args):
    """{task: (Labelled, training ids, test ids)}, ground apart, the same for every arm
    and seed."""
    out = {
        name: open_labels("sim", name, 96, n=128)
        for name in ("landcover", "water", "road")
    }
    if args.data:
        out |= {
            "water, KOMPSAT-5": kompsat(args),
            "land cover, San Francisco": san_francisco(args),
        }
    share = {"water, KOMPSAT-5": 0.5, "land cover, San Francisco": 0.35}
    return {
        name: (labelled, *split(labelled, share.get(name, 0.25)))
        for name, labelled in out.items()
    }


def begin(args, arm, name, labelled, ids, seed):
    """(Encoder, Preprocess): the contract of pre-training on simulated scenes; fitted
    to the training tiles where the calibration is another."""
    run = (
        args.first / EXTRA[arm] / f"region_0.5_{seed}"
        if arm in EXTRA
        else folder(args, arm if arm in ARMS else "MoCo v2")
    )
    encoder, pre = load_weights(run / "weights.safetensors")
    if arm in EXTRA:
        pre = load_weights(folder(args, "MoCo v2") / "weights.safetensors")[
            1
        ]  # the same contract for all
    if arm in ("random", FITTED):
        encoder = new_model(make_config("tiny", width=1.0), 1, seed).encoder
    return encoder, pre if name in ("landcover", "water", "road") else Preprocess.fit(
        to_unit(sample_images(labelled, ids), labelled.unit, "db"), "db", pre.channels
    )


# ------------------------------------ frozen, from features that are computed once


@torch.inference_mode()
def features(model, labelled, ids):
    "The six maps of every tile, and its labels."
    parts = [
        pyramid(model.encoder, model.feed(x, labelled.unit))
        for x in labelled.batch(ids)[0].split(16)
    ]
    return [torch.cat(level) for level in zip(*parts)], labelled.batch(ids)[1].long()


@torch.no_grad()
def fit_norms(encoder, feed, labelled, ids):
    """The mean and variance of every channel over these tiles, in the place of 0 and 1;
    nothing is learned."""
    for m in encoder.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None  # a plain average over batches
    encoder.train()
    for x in labelled.batch(ids)[0].split(16):
        encoder(feed(x, labelled.unit))
    encoder.eval()


def decode(model, maps, size):
    return torch.nn.functional.interpolate(
        model.head(model.decoder(maps)), maps[0].shape[-2:], mode="bilinear"
    )[..., :size, :size]


def frozen(model, labelled, ids, seed):
    "Train the decoder on whole tiles, half of them flipped."
    g, plan, loss = torch.Generator().manual_seed(seed), FROZEN, make_loss(FROZEN.loss)
    with torch.no_grad():
        maps, label = features(model.eval(), labelled, ids)
    learnable = [*model.decoder.parameters(), *model.head.parameters()]
    optimizer = torch.optim.AdamW(learnable, plan.lr, weight_decay=plan.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.lr, plan.steps)
    model.decoder.train()
    for _ in range(plan.steps):
        some, flip = (
            torch.randint(len(ids), (plan.batch,), generator=g),
            torch.rand((), generator=g) < 0.5,
        )
        turn = (
            (lambda x: x.flip(-1)) if flip else (lambda x: x)
        )  # of the maps: convolutions do not commute exactly with a flip, but nearly
        loss(
            decode(model, [turn(m[some].clone()) for m in maps], labelled.size),
            turn(label[some]),
        ).backward()
        optimizer.step()
        optimizer.zero_grad()
        rate.step()


def means(x, unit):
    "(B, H, W, windows) mean backscatter about every pixel, dB, of the first channel."
    power = to_unit(x[:, :1], unit, "intensity")
    means = [
        torch.nn.functional.avg_pool2d(
            torch.nn.functional.pad(power, [w // 2] * 4, mode="reflect"), w, 1
        )
        for w in WINDOWS
    ]
    return to_unit(torch.cat(means, 1), "intensity", "db").permute(0, 2, 3, 1)


def by_brightness(labelled, ids, seed, n=100_000):
    """Boosted trees on those means, from at most n labelled pixels; called as a model
    is."""
    image, label = labelled.batch(ids)[:2]
    x, y = means(image, labelled.unit)[known := label != IGNORE], label[known]
    some = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:n]
    trees = HistGradientBoostingClassifier(random_state=seed, early_stopping=False).fit(
        x[some].numpy(), y[some].numpy()
    )

    def logits(image, unit):
        x = means(image, unit)
        out = torch.full((x[..., 0].numel(), len(labelled.classes)), -torch.inf)
        out[:, torch.from_numpy(trees.classes_).long()] = torch.from_numpy(
            trees.predict_proba(x.flatten(0, 2).numpy())
        ).float()
        return out.unflatten(0, x.shape[:3]).permute(0, 3, 1, 2)

    return logits


def chessboard(x, unit):
    odd = (torch.arange(x.shape[-2])[:, None] + torch.arange(x.shape[-1])) % 2
    return torch.stack([1 - odd, odd]).float().expand(len(x), -1, -1, -1)


def tune_one(args, way, name, labelled, ids, test, labels, arm, seed, cache):
    learn = few(labelled, ids, labels, seed)
    if arm == BRIGHTNESS:
        return tally(by_brightness(labelled, learn, seed), labelled, test)
    if arm == EDGES:
        return tally(chessboard, labelled, test)
    encoder, pre = begin(args, arm, name, labelled, ids, seed)
    torch.manual_seed(seed)
    model = Segmenter(
        encoder.to(memory_format=torch.channels_last),
        pre,
        labelled.classes,
        DECODERS.get(name, "upernet"),
    )
    if arm == FITTED:
        fit_norms(model.encoder, model.feed, labelled, ids)
    if way == "full":
        fit(
            make_learner(model, labelled, Areas(learn, [], test), FULL, seed),
            FULL,
            seed,
        )
        return tally(model.eval(), labelled, test)
    frozen(model, labelled, learn, seed)
    if (
        key := (name, arm, 0 if arm in ARMS else seed)
    ) not in cache:  # the test tiles' features, once an encoder
        cache.clear()
        cache[key] = features(model.eval(), labelled, test)[0]
    levels = zip(*(m.split(16) for m in cache[key]))
    return tally(
        lambda image, unit: decode(
            model.eval(), [m.clone() for m in next(levels)], labelled.size
        ),
        labelled,
        test,
    )


def arms_of(args, name):
    return (
        "random",
        FITTED,
        *ARMS,
        *(EXTRA if args.first else ()),
        *((BRIGHTNESS, EDGES) if name != "road" else ()),
    )


def jobs(args, names):
    "(way, task, arm, seed, labels), in the order in which features can be kept."
    for name in names:
        for arm, seed, labels in itertools.product(arms_of(args, name), SEEDS, LABELS):
            yield "frozen", name, arm, seed, labels
    for name, arm, seed in itertools.product(names, FULL_ARMS, SEEDS):
        if name in FULL_TASKS:
            yield "full", name, arm, seed, 8


def place(args, *job):
    return (
        args.runs
        / "tallies"
        / ("__".join(map(str, job)).replace(" ", "_").replace(",", "") + ".pt")
    )


def tune(args):
    (args.runs / "tallies").mkdir(exist_ok=True)
    there, cache = tasks(args), {}
    for way, name, arm, seed, labels in jobs(args, there):
        if (
            to := place(args, way, name, arm, seed, labels)
        ).exists() or args.only not in (None, arm):
            continue
        t = tune_one(args, way, name, *there[name], labels, arm, seed, cache)
        torch.save(t._asdict(), to.with_suffix(".tmp"))
        to.with_suffix(".tmp").rename(to)
        miou = score_functions(there[name][0])["miou"][1](t.confusion)
        print(
            f"{way}, {name}, {arm}, seed {seed}, {labels} labels: mIoU {miou:.3f}",
            flush=True,
        )


# ---------------------------------------------------------------- scores

SCORES = {
    "landcover": ("miou", "boundary f1", "boundary correctness", "oa"),
    "water": ("iou water", "boundary f1", "boundary correctness"),
    "road": ("iou road", "road f1, buffered", "road connectivity"),
}
RIVALS = (
    "random",
    "MoCo v2",
    "+ CC, published",
    "DI3CL",
    "region 0.5, 20,000 pairs",
    BRIGHTNESS,
)


def scores(labelled, confusion):  # ...; of the test ground
    """{score: (field of Tally, function)}: 13b's, but mIoU is over the classes that the
    test ground has."""
    there = confusion.sum(1) > 0
    return score_functions(labelled) | {
        "miou": (
            "confusion",
            lambda n: segmentation_report(n.sum(0)).iou[there].nanmean().item(),
        ),
        "boundary correctness": ("boundary", lambda n: match_scores(n).correctness),
    }


def redrawn(blocks, n=2000):
    """All seeds and blocks of ground once, then n draws of as many with repetition, the
    same for every arm: differences are paired."""
    g, S = torch.Generator().manual_seed(0), len(SEEDS)
    return [(range(S), torch.arange(blocks))] + [
        (
            torch.randint(S, (S,), generator=g).tolist(),
            torch.randint(blocks, (blocks,), generator=g),
        )
        for _ in range(n)
    ]


def interval(x):  # a score, then the scores of the draws
    "[score, and the 95 % interval]"
    return [
        round(v, 4)
        for v in (
            x[0].item(),
            *x[1:].nanquantile(torch.tensor([0.025, 0.975], dtype=x.dtype)).tolist(),
        )
    ]


def rows_of(args, way, name, labelled, labels, arms):
    def read(way, arm):
        files = (place(args, way, name, arm, seed, labels) for seed in SEEDS)
        return [Tally(**torch.load(file, weights_only=True)) for file in files]

    found = {arm: read(way, arm) for arm in arms} | (
        {f"frozen {arm}": read("frozen", arm) for arm in arms} if way == "full" else {}
    )
    known = scores(labelled, found["random"][0].confusion.sum(0))
    for score in SCORES[labelled.task]:
        field, statistic = known[score]
        units = {
            arm: [by_group(getattr(t, field), t.group) for t in runs]
            for arm, runs in found.items()
        }
        draws = redrawn(len(units["random"][0]))
        spread = {
            arm: torch.tensor(
                [
                    sum(statistic(u[k][blocks]) for k in seeds) / len(seeds)
                    for seeds, blocks in draws
                ],
                dtype=torch.float64,
            )
            for arm, u in units.items()
            if arm != EDGES or "boundary" in score
        }
        for arm in (a for a in arms if a in spread):
            row = dict(
                way=way,
                task=name,
                labels=labels,
                arm=arm,
                score=score,
                value=interval(spread[arm]),
                by_seed=[round(statistic(u), 4) for u in units[arm]],
            )
            rivals = {r: r for r in RIVALS if r in spread and r != arm} | (
                {"frozen": f"frozen {arm}"} if way == "full" else {}
            )
            yield row | {
                f"over {r}": interval(spread[arm] - spread[key])
                for r, key in rivals.items()
            }


def ground(args, name, labelled, train, test):
    "How much there is, and the shares of the classes in the test truth, percent."
    n = Tally(
        **torch.load(place(args, "frozen", name, "random", 0, 8), weights_only=True)
    ).confusion.sum((0, 2))
    return dict(
        train=len(train),
        test=len(test),
        blocks=len(labelled.groups[torch.tensor(test)].unique()),
        size=labelled.size,
        classes={
            c: round(100 * v, 1)
            for c, v in zip(labelled.classes, (n / n.sum()).tolist())
        },
    )


def cost(args, arm):
    "What pre-training took."
    rows = list(csv.DictReader(open(folder(args, arm) / "metrics.csv")))
    return dict(
        arm=arm,
        pairs=int(rows[-1]["step"]) * make_config("tiny", width=1.0).batch,
        minutes=round(float(rows[-1]["seconds"]) / 60, 1),
    )


def score(args):
    there, rows = tasks(args), []
    for name in there:
        for labels in LABELS:
            rows += rows_of(
                args, "frozen", name, there[name][0], labels, arms_of(args, name)
            )
    for name in FULL_TASKS:
        rows += (
            rows_of(args, "full", name, there[name][0], 8, FULL_ARMS)
            if name in there
            else []
        )
    sizes = {name: ground(args, name, *known) for name, known in there.items()}
    record = dict(
        command="python benchmarks/pilot.py score",
        pretraining=[cost(args, arm) for arm in ARMS],
        tasks=sizes,
        machine=platform.platform(),
        torch=torch.__version__,
        rows=rows,
    )
    write_json(Path(__file__).parent / "results/pilot.json", record)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "tune", "score"))
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument(
        "--data", type=Path, help="the real data; left out: simulated only"
    )
    parser.add_argument("--first", type=Path, help="the runs of first_question.py")
    parser.add_argument(
        "--only", choices=("random", FITTED, *ARMS, *EXTRA, BRIGHTNESS, EDGES)
    )
    parser.add_argument("--pairs", type=int, default=160_000)
    args = parser.parse_args()
    dict(train=train, tune=tune, score=score)[args.what](args)
