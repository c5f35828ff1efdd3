"""The first honest question: which parts of the recipe help a small encoder after
minutes of training, on simulated and on real radar?

    python benchmarks/first_question.py train --runs RUNS --data DATA
        # resumable; one run after the other, about 2 minutes each
    python benchmarks/first_question.py score --runs RUNS --data DATA
        # -> benchmarks/results/first_question.json

DATA is a folder laid out as the README of our trial data says (MSTAR clutter,
KOMPSAT-5, one Sentinel-1 site, AIRSAR San Francisco); it is not part of the project.
Without --data only what needs none of it is run. Nothing of San Francisco is seen in
pre-training.
"""

import argparse
import itertools
import logging
import platform
import warnings
from pathlib import Path
from typing import NamedTuple

import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from stopwatch import write_json

from di3cl.evaluate.dense import (
    collect_pixels,
    encoder_reader,
    fit_pixels,
    map_confusions,
    statistics_reader,
)
from di3cl.evaluate.probe import (
    Patches,
    confusions,
    cut_patches,
    embed,
    image_statistics,
    keep_common,
    predict_patches,
)
from di3cl.labels import by_group
from di3cl.pretrain import new_model, pretrain
from di3cl.sar import Preprocess, read_sar, to_unit
from di3cl.scenes import TEST_START, simulate
from di3cl.train.config import make_config
from di3cl.weights import load_weights

ARMS = {  # settings of the tiny preset that differ
    "DI3CL": dict(),
    "MoCo v2": dict(loss_weights=(1, 0, 0)),
    "no region": dict(loss_weights=(0.8, 0.2, 0)),
    "region 0.5": dict(loss_weights=(0.8, 0.2, 0.5)),
    "region 1": dict(loss_weights=(0.8, 0.2, 1)),
    "DI3CL, published": dict(recipe="published"),
    "MoCo v2, published": dict(recipe="published", loss_weights=(1, 0, 0)),
}
LEVEL = (
    -10.0
)  # dB: the median that every real source is brought to, since calibrations differ


def real_images(
    data,
):
    # (name, SarImage), units as the README states them; 8-bit clutter is taken for
    # amplitude
    for p in sorted((data / "mstar_clutter_unlabelled").glob("*.jpg")):
        yield p.stem, read_sar(p, unit="amplitude")
    for p in sorted((data / "k5_water/img").iterdir()):
        yield f"k5_{p.stem}", read_sar(p, unit="amplitude")
    for p in sorted((data / "s1_geotiff/ssl4eo_0000200").rglob("*.tif")):
        if "VV" in p.name.upper() or "vv" in str(p):
            yield f"s1_{p.parent.name}_{p.stem}", read_sar(p, unit="db")


def make_real_tiles(data, out):
    """Every real image, one band, as float32 dB with its median at LEVEL, one GeoTIFF
    each."""
    out.mkdir(parents=True, exist_ok=True)
    for name, image in real_images(data):
        db = to_unit(image.data[:1], image.unit, "db")
        db = (db - db[:, image.valid].median() + LEVEL).numpy()
        with rasterio.open(
            out / f"{name}.tif",
            "w",
            driver="GTiff",
            height=db.shape[1],
            width=db.shape[2],
            count=1,
            dtype="float32",
        ) as f:
            f.write(db)
    return out


def train(args):
    sources = {"simulated": "sim"}
    if args.data:
        folder = args.runs / "real_tiles"
        sources["real"] = (
            folder if folder.exists() else make_real_tiles(args.data, folder)
        )
    for seed, (source, data), (arm, settings) in itertools.product(
        range(args.seeds), sources.items(), ARMS.items()
    ):
        out = args.runs / source / f"{arm} {seed}".replace(" ", "_")
        if (out / "weights.safetensors").exists() or args.only not in (None, source):
            continue
        print(f"--- {source}, {arm}, seed {seed}", flush=True)
        pretrain(
            data,
            out,
            "tiny",
            width=1.0,   # as the preset was when this was run
            unit=None if data == "sim" else "db",
            seed=seed,
            resume=(out / "config.json").exists(),
            checkpoint_seconds=30,
            pairs=args.pairs,
            **settings,
        )


# ---------------------------------------------------------------- scores

N_CLASSES = 10
STRIP, GAP, PATCH = (
    64,
    16,
    32,
)  # San Francisco: strips of columns, train and test in turn, half a patch apart


class Tiles(NamedTuple):
    image: torch.Tensor  # (n, 1, H, W) dB
    label: torch.Tensor  # (n, H, W), 255 is unlabelled
    group: torch.Tensor  # (n,) block of ground

    def batches(self, shift=0.0):
        return [
            (x - shift, y, g)
            for x, y, g in zip(
                self.image.split(32), self.label.split(32), self.group.split(32)
            )
        ]


def san_francisco(data):
    """(train, test) Tiles of 64 x 64; two tiles of a strip, one above the other, are
    one block of ground."""
    power = read_sar(data / "sf_airsar_landcover/T11.bin", unit="intensity")
    with rasterio.open(data / "sf_airsar_landcover/label.png") as f:
        label = torch.from_numpy(f.read(1)).long()
    image, label = (
        to_unit(power.data, "intensity", "db"),
        torch.where(label > 0, label - 1, 255),
    )  # bare soil, mountain, water, urban, vegetation
    sides = [], []
    for k, left in enumerate(range(0, label.shape[1] - STRIP + 1, STRIP + GAP)):
        for row, top in enumerate(range(0, label.shape[0] - STRIP + 1, STRIP)):
            window = slice(top, top + STRIP), slice(left, left + STRIP)
            sides[k % 2].append(
                (image[:, *window], label[window], torch.tensor(100 * k + row // 2))
            )
    return [Tiles(*map(torch.stack, zip(*side))) for side in sides]


def simulated(data=None):
    "(train, test) Tiles: simulated scenes that no pre-training saw."
    s = simulate(160, 128, 0, TEST_START)
    return [
        Tiles(s.image[k], s.label[k].long(), torch.arange(160)[k])
        for k in (slice(0, 100), slice(100, 160))
    ]


def common(train, test, least=1000):  # pixels
    "The same tiles; classes that either side hardly has become unlabelled."
    rare = [
        c
        for c in range(255)
        if c in train.label.unique()
        and min((train.label == c).sum(), (test.label == c).sum()) < least
    ]
    return [
        t._replace(
            label=torch.where(
                torch.isin(t.label, torch.tensor(rare, dtype=torch.long)), 255, t.label
            )
        )
        for t in (train, test)
    ]


def patches(tiles):
    "Patches at half steps within the tiles."
    parts = [
        cut_patches(tiles.image[..., dy:, dx:], tiles.label[..., dy:, dx:], "db", PATCH)
        for dy, dx in itertools.product((0, PATCH // 2), repeat=2)
    ]
    return Patches(
        *map(torch.cat, zip(*((p.x, p.y, tiles.group[p.group]) for p in parts))), "db"
    )


def level(preprocess, train):
    """The contract, with the level moved so that the median of the training area is its
    mean: calibrations differ. One number, from training ground only."""
    return preprocess, float(train.image.median() - preprocess.mean[0])


def refit(preprocess, train):
    """Clip, mean and std fitted to the training area: the encoder's own contract is put
    aside."""
    return Preprocess.fit(train.image, "db", preprocess.channels), 0.0


def ask_patches(
    encoder, contract, train, test
):  # contract: (Preprocess, dB to take off); None for both: image statistics
    "{(what, way): (blocks, n, n) confusions} of patches."
    a, b = keep_common(patches(train), patches(test))
    features = (
        image_statistics
        if encoder is None
        else lambda p: embed(encoder, contract[0], p._replace(x=p.x - contract[1]))
    )
    return {
        ("patches", way): confusions(given, b, N_CLASSES)
        for way, given in predict_patches(features, a, b).items()
    }


def ask_pixels(encoder, contract, train, test):
    "The same of single pixels."
    read, shift = (
        (statistics_reader(), 0.0)
        if encoder is None
        else (encoder_reader(encoder, contract[0], "db"), contract[1])
    )
    probes = fit_pixels(
        collect_pixels(read, train.batches(shift), 3, torch.Generator().manual_seed(0))
    )
    return {
        ("pixels", way): by_group(c, test.group)
        for way, c in map_confusions(
            read, probes, test.batches(shift), N_CLASSES, every=8
        ).items()
    }


def accuracy(counts):  # (seeds, blocks, n, n) -> mean over seeds of balanced accuracy
    c = counts.sum(1).double()
    return float((c.diagonal(dim1=1, dim2=2) / c.sum(2)).nanmean(1).mean())


def interval(statistic, *counts, n=1000):
    """Value and 95 % interval, resampling blocks of ground and pre-training seeds
    together (with three seeds: too narrow rather than too wide)."""
    rng = torch.Generator().manual_seed(0)
    S, G = counts[0].shape[:2]
    draws = [
        statistic(*(c[s][:, g] for c in counts))
        for s, g in (
            (
                torch.randint(S, (S,), generator=rng),
                torch.randint(G, (G,), generator=rng),
            )
            for _ in range(n)
        )
    ]
    return [
        round(x, 4)
        for x in (
            statistic(*counts),
            *torch.tensor(draws).nanquantile(torch.tensor([0.025, 0.975])).tolist(),
        )
    ]


def ask_all(args, tests):
    """{(test, source, contract, arm, patches or pixels, way): one (blocks, n, n) table
    a seed}."""
    found = {}
    for where, (train, test, contracts) in tests.items():

        def add(key, *given):
            for ask in (ask_patches, ask_pixels):
                for way, table in ask(*given, train, test).items():
                    found.setdefault((where, *key, *way), []).append(table)

        add(("-", "-", "image statistics"), None, None)
        for source, arm, seed in itertools.product(
            ("simulated", "real") if args.data else ("simulated",),
            ARMS,
            range(args.seeds),
        ):
            print(f"{where}: {source}, {arm}, seed {seed}", flush=True)
            encoder, preprocess = load_weights(
                args.runs
                / source
                / f"{arm} {seed}".replace(" ", "_")
                / "weights.safetensors"
            )
            starts = {arm: encoder} | (
                {"random": new_model(make_config("tiny", width=1.0), 1, seed).encoder}
                if arm == "DI3CL"
                else {}
            )
            for (name, e), contract in itertools.product(starts.items(), contracts):
                add((source, contract.__name__, name), e, contract(preprocess, train))
    return {key: torch.stack(tables) for key, tables in found.items()}


def score(args):
    tests = {
        "simulated": (*common(*simulated()), (level,)),
        **(
            {"San Francisco": (*common(*san_francisco(args.data)), (level, refit))}
            if args.data
            else {}
        ),
    }
    found, rows = ask_all(args, tests), []
    for (where, source, contract, arm, what, way), t in found.items():
        row = dict(
            test=where,
            pretraining=source,
            contract=contract,
            arm=arm,
            what=what,
            way=way,
            seeds=len(t),
            accuracy=interval(accuracy, t),
            by_seed=[round(accuracy(x[None]), 4) for x in t],
        )
        for other in ("random", "MoCo v2", "DI3CL"):
            rival = found.get((where, source, contract, other, what, way))
            if rival is not None and arm != other:
                row[f"over {other}"] = interval(
                    lambda a, b: accuracy(a) - accuracy(b), t, rival
                )
        rows.append(row)
    sizes = {
        where: {
            "training patches": len(patches(a).y),
            "test patches": len(patches(b).y),
            "test pixels": int((b.label != 255).sum()),
            "classes": len(b.label[b.label != 255].unique()),
            "blocks of ground": len(b.group.unique()),
        }
        for where, (a, b, _) in tests.items()
    }
    record = dict(
        command="python benchmarks/first_question.py score",
        pairs=args.pairs,
        sizes=sizes,
        machine=platform.platform(),
        torch=torch.__version__,
        rows=rows,
    )
    write_json(Path(__file__).parent / "results/first_question.json", record)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "score"))
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument(
        "--data", type=Path, help="the real data; left out: simulated only"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only",
        choices=("simulated", "real"),
        help="one pre-training source: two processes can share the work",
    )
    parser.add_argument("--pairs", type=int, default=20_000)
    args = parser.parse_args()
    train(args) if args.what == "train" else score(args)
