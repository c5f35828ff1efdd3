"""The first honest question: which parts of the recipe help a small encoder after minutes of training, on simulated and on real radar?

    python benchmarks/first_question.py train --runs RUNS --data DATA     # resumable; one run after the other, about 2 minutes each
    python benchmarks/first_question.py score --runs RUNS --data DATA     # -> benchmarks/results/first_question.json

DATA is a folder laid out as the README of our trial data says (MSTAR clutter, KOMPSAT-5, one Sentinel-1 site, AIRSAR San Francisco); it is not
part of the project. Without --data only what needs none of it is run. Nothing of San Francisco is seen in pre-training.
"""
import argparse, itertools, json, logging, platform, warnings
from pathlib import Path

import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning

from di3cl.pairs import make_config
from di3cl.pretrain import new_model, pretrain
from di3cl.probe import Patches, answer, cut_patches, embed, image_statistics, keep_common, sim_patches
from di3cl.sar import read_sar, to_unit
from di3cl.weights import load_weights, write_atomic

ARMS = {                                                     # settings of the tiny preset that differ
    "DI3CL":              dict(),
    "MoCo v2":            dict(loss_weights=(1, 0, 0)),
    "no region":          dict(loss_weights=(0.8, 0.2, 0)),
    "region 0.5":         dict(loss_weights=(0.8, 0.2, 0.5)),
    "region 1":           dict(loss_weights=(0.8, 0.2, 1)),
    "DI3CL, published":   dict(recipe="published"),
    "MoCo v2, published": dict(recipe="published", loss_weights=(1, 0, 0)),
}
LEVEL = -10.0                                                # dB: the median that every real source is brought to, since calibrations differ

def real_images(data):                                       # (name, SarImage), units as the README states them; 8-bit clutter is taken for amplitude
    for p in sorted((data / "mstar_clutter_unlabelled").glob("*.jpg")): yield p.stem, read_sar(p, unit="amplitude")
    for p in sorted((data / "k5_water/img").iterdir()): yield f"k5_{p.stem}", read_sar(p, unit="amplitude")
    for p in sorted((data / "s1_geotiff/ssl4eo_0000200").rglob("*.tif")):
        if "VV" in p.name.upper() or "vv" in str(p): yield f"s1_{p.parent.name}_{p.stem}", read_sar(p, unit="db")

def make_real_tiles(data, out):
    "Every real image, one band, as float32 dB with its median at LEVEL, one GeoTIFF each."
    out.mkdir(parents=True, exist_ok=True)
    for name, image in real_images(data):
        db = to_unit(image.data[:1], image.unit, "db")
        db = (db - db[:, image.valid].median() + LEVEL).numpy()
        with rasterio.open(out / f"{name}.tif", "w", driver="GTiff", height=db.shape[1], width=db.shape[2], count=1, dtype="float32") as f: f.write(db)
    return out

def train(args):
    sources = {"simulated": "sim"}
    if args.data:
        folder = args.runs / "real_tiles"
        sources["real"] = folder if folder.exists() else make_real_tiles(args.data, folder)
    for seed, (source, data), (arm, settings) in itertools.product(range(args.seeds), sources.items(), ARMS.items()):
        out = args.runs / source / f"{arm} {seed}".replace(" ", "_")
        if (out / "weights.safetensors").exists() or args.only not in (None, source): continue
        print(f"--- {source}, {arm}, seed {seed}", flush=True)
        pretrain(data, out, "tiny", unit=None if data == "sim" else "db", seed=seed, resume=(out / "config.json").exists(), checkpoint_seconds=30, pairs=args.pairs, **settings)

# ---------------------------------------------------------------- scores

STRIP, GAP, PATCH = 64, 16, 32                               # San Francisco: strips of columns, train and test in turn, half a patch apart
LEGEND = ("bare soil", "mountain", "water", "urban", "vegetation")

def strips(image, label):                                    # (1, H, W) dB, (H, W)
    "(train, test): Patches of every second strip of columns; a block of 128 rows of one strip is one piece of ground."
    sides = [], []
    for k, left in enumerate(range(0, label.shape[1] - STRIP + 1, STRIP + GAP)):
        for block, top in enumerate(range(0, label.shape[0] - PATCH + 1, 128)):
            window = slice(top, top + 128 + PATCH // 2), slice(left, left + STRIP)
            for dy, dx in itertools.product((0, PATCH // 2), repeat=2):   # windows at half steps
                p = cut_patches(image[:, window[0], window[1]][None, :, dy:, dx:], label[window][None, dy:, dx:], "db", PATCH)
                sides[k % 2].append(p._replace(group=torch.full_like(p.group, 100 * k + block)))
    return [Patches(*(torch.cat([p[i] for p in side]) for i in range(3)), "db") for side in sides]

def san_francisco(data):
    "(train, test) of the classes that both areas have."
    power = read_sar(data / "sf_airsar_landcover/T11.bin", unit="intensity")
    with rasterio.open(data / "sf_airsar_landcover/label.png") as f: label = torch.from_numpy(f.read(1)).long() - 1
    return keep_common(*strips(to_unit(power.data, "intensity", "db"), torch.where(label < 0, 255, label)))

def simulated(data=None): return keep_common(sim_patches(300, 0), sim_patches(200, 300))

def tally(prediction, test, groups, classes):                # -> (groups, 2, classes): right, and all
    out = torch.zeros(len(groups), 2, classes)
    g = torch.searchsorted(groups, test.group)
    out[:, 0].index_put_((g, test.y), (prediction == test.y).float(), accumulate=True)
    out[:, 1].index_put_((g, test.y), torch.ones(len(g)), accumulate=True)
    return out

def features(encoder, preprocess):
    "Embeddings of patches whose level is moved so that the median of the training area is the contract's mean (calibrations differ; one number, from training ground only)."
    return lambda patches, level: embed(encoder, preprocess, patches._replace(x=patches.x - level + preprocess.mean[0]))

def predict(feature, train, test):
    level = train.x.median()
    return answer(lambda p: feature(p, level), train, test)

def accuracy(tallies):                                       # (S, G, 2, K) -> mean over seeds of balanced accuracy
    right, all_ = tallies.sum(1).unbind(1)                   # (S, K) each
    known = all_[0] > 0
    return float((right[:, known] / all_[:, known]).mean())

def interval(statistic, *tallies, n=1000):
    "Value and 95 % interval, resampling blocks of ground and pre-training seeds together (with three seeds: too narrow rather than too wide)."
    rng = torch.Generator().manual_seed(0)
    S, G = tallies[0].shape[:2]
    draws = []
    for _ in range(n):
        s, g = torch.randint(S, (S,), generator=rng), torch.randint(G, (G,), generator=rng)
        draws.append(statistic(*(t[s][:, g] for t in tallies)))
    return [round(x, 4) for x in (statistic(*tallies), *torch.tensor(draws).nanquantile(torch.tensor([.025, .975])).tolist())]

def score(args):
    tests = {"simulated": simulated(), **({"San Francisco": san_francisco(args.data)} if args.data else {})}
    results, predictions = [], {}
    for where, (train, test) in tests.items():
        groups, classes = test.group.unique(), int(test.y.max()) + 1
        add = lambda key, given: predictions.setdefault((where, *key), []).append(tally(given, test, groups, classes))
        for way, given in answer(image_statistics, train, test).items(): add(("-", "image statistics", way), given)
        for source in ("simulated", "real") if args.data else ("simulated",):
            for arm, seed in itertools.product(ARMS, range(args.seeds)):
                path = args.runs / source / f"{arm} {seed}".replace(" ", "_") / "weights.safetensors"
                if not path.exists(): continue
                encoder, preprocess = load_weights(path)
                starts = {arm: encoder} | ({"random": new_model(make_config("tiny"), 1, seed).encoder} if arm == "DI3CL" else {})
                for name, e in starts.items():
                    for way, given in predict(features(e, preprocess), train, test).items(): add((source, name, way), given)
    for (where, source, name, way), t in predictions.items():
        t = torch.stack(t)
        row = dict(test=where, pretraining=source, arm=name, way=way, seeds=len(t), accuracy=interval(accuracy, t), by_seed=[round(accuracy(x[None]), 4) for x in t])
        for other in ("random", "MoCo v2", "DI3CL"):
            rival = predictions.get((where, source, other, way), [])
            if name != other and len(rival) == len(t): row[f"over {other}"] = interval(lambda a, b: accuracy(a) - accuracy(b), t, torch.stack(rival))
        results.append(row)
        print(f"{where:14} {source:10} {name:19} {way:7} {len(t)} seeds  " + "  ".join(f"{k}: {v[0]:+.3f} ({v[1]:+.3f} {v[2]:+.3f})" for k, v in row.items() if isinstance(v, list) and k != "by_seed"), flush=True)
    sizes = {where: {"train": len(a.y), "test": len(b.y), "classes": len(b.y.unique()), "blocks of ground": len(b.group.unique())} for where, (a, b) in tests.items()}
    record = dict(command="python benchmarks/first_question.py score", pairs=args.pairs, sizes=sizes, machine=platform.platform(), torch=torch.__version__, rows=results)
    write_atomic(Path(__file__).parent / "results/first_question.json", (json.dumps(record, indent=1) + "\n").encode())

if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "score"))
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--data", type=Path, help="the real data; left out: simulated only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("simulated", "real"), help="one pre-training source: two processes can share the work")
    parser.add_argument("--pairs", type=int, default=20_000)
    args = parser.parse_args()
    train(args) if args.what == "train" else score(args)
