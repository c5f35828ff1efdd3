"""Ships on SSDD with few labelled images: is the released encoder a better start?

    python benchmarks/ships.py train --data DATA --runs RUNS    # resumable, run by run
    python benchmarks/ships.py score --data DATA --runs RUNS

writes benchmarks/results/ships.json; a quarter of an hour on one core. DATA holds
`img/*.jpg` and `boxes_yolo/*.txt`: 120 images of SSDD (Zhang et al. 2021; RadarSat-2,
TerraSAR-X and Sentinel-1), of github.com/PrathamPShetty/sar-ship-detection. They are
not part of the project.

What was fixed before the first score on a test image:

- A random order of the images (seed 0): 40 to test on, 16 to validate on, 64 to learn
  from. With 8 labels a seed draws 8 of the 64. Whether images show parts of one scene
  is not told; none looks like a copy of another.
- The pictures are 8-bit and uncalibrated. Their numbers are taken for amplitude, 0 for
  1, and put into dB. Both starts see each image as the released encoder's contract has
  it: told by the image's own median and spread.
- Two starts of one network (that of the released encoder), everything trained:
  `random`, and `released`, the encoder in release/. Heads, crops and, with 8 labels,
  the images are the same for both. STEPS steps of AdamW on BATCH crops of CROP pixels.
  The peak learning rate is that of LRS with the best AP50 on the validation images,
  for each start and number of labels by itself, seed 0. Seeds 0, 1, 2. Steps, crops,
  and 0.5 as the overlap from which an anchor says yes were tried on the validation
  images (added after scoring: with 64 labels and an earlier released encoder only).
- `CFAR`, a threshold: its settings are those of the grid below with the best AP50 on
  the labelled images; it takes none from validation.
- AP50 on the test images, once. Intervals redraw images and seeds, 2,000 times, the
  same for all; differences are paired.
"""
import argparse
import platform
from itertools import product
from pathlib import Path

import torch
from scipy import ndimage, stats
from skimage.measure import label, regionprops
from skimage.morphology import isotropic_closing
from stopwatch import write_json

import di3cl
from di3cl.evaluate.metrics import average_precision, match_boxes
from di3cl.evaluate.report import make_untrained
from di3cl.files import SarError
from di3cl.sar import read_sar, to_unit
from di3cl.tasks.detect import (
    Detector,
    as_backbone,
    load_detector,
    save_detector,
    train_detector,
)
from di3cl.weights import load, read_label

ROOT = Path(__file__).parents[1]
STARTS, LABELS, SEEDS = ("random", "released"), (8, 64), (0, 1, 2)
STEPS, BATCH, CROP, LRS = 120, 4, 128, (4e-4, 1e-3)
GRID = dict(false_alarm=(1e-2, 1e-3, 1e-4, 1e-6), guard=(16, 40), gap=(2, 6))


def read_ships(path, data):
    "Return (image in dB, (1, H, W); boxes (K, 4)) of one file."
    amplitude = read_sar(path, unit="amplitude").data[:1].clamp(min=1)
    rows = (data / f"boxes_yolo/{path.stem}.txt").read_text().splitlines()
    place = torch.tensor([[*map(float, row.split()[1:])] for row in rows])
    height, width = amplitude.shape[1:]
    centre, side = place.mul(torch.tensor([width, height] * 2)).chunk(2, 1)
    boxes = torch.cat([centre - side / 2, centre + side / 2], 1)
    return to_unit(amplitude, "amplitude", "db"), boxes


def parts_of(data):
    "Return {part: [(image, boxes), ...]}."
    paths = sorted((data / "img").glob("*.jpg"))
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0))
    ships = [read_ships(paths[i], data) for i in order]
    return dict(test=ships[:40], val=ships[40:56], train=ships[56:])


def labelled(train, labels, seed):
    "Return numbers of the images that this seed may learn from."
    g = torch.Generator().manual_seed(seed)
    return torch.randperm(len(train), generator=g)[:labels].tolist()


@torch.no_grad()
def matches(detector, ships):
    "Match what a detector finds on each image with the truth."
    contract = detector.backbone.loaded.preprocess
    return [match_boxes(detector([contract.convert(image, "db")], contract.unit)[0],
                        boxes) for image, boxes in ships]


def trained(args, parts, start, labels, seed, lr):
    "Return a Detector and its AP50 on the validation images; from its file, if there."
    path = args.runs / f"{start}_{labels}_{seed}_{lr:g}.safetensors"
    if not path.exists():
        images, boxes = zip(*(parts["train"][i]
                              for i in labelled(parts["train"], labels, seed)))
        encoder, contract = load(args.weights)
        images = [contract.convert(x, "db") for x in images]
        torch.manual_seed(seed)
        heads = Detector(as_backbone((encoder, contract)))
        if start == "random":
            heads.encoder.load_state_dict(make_untrained(encoder, seed).state_dict())
        detector = train_detector(
            heads, images, boxes, contract.unit, STEPS, BATCH, CROP, lr, seed)
        val = average_precision(matches(detector, parts["val"]))
        args.runs.mkdir(parents=True, exist_ok=True)
        save_detector(detector, path, val=val)
        print(f"{path.stem:32} AP50 on validation {val:.3f}", flush=True)
    detector = load_detector(path)
    return detector, detector.label["provenance"]["val"]


def choose_lr(args, parts, start, labels):
    "Return the learning rate that is best on validation images, and all of them."
    found = {lr: trained(args, parts, start, labels, SEEDS[0], lr)[1] for lr in LRS}
    return max(found, key=found.get), found


def train(args, parts):
    for labels, start in product(args.labels, STARTS):
        lr, _ = choose_lr(args, parts, start, labels)
        for seed in SEEDS[1:]:
            trained(args, parts, start, labels, seed, lr)


def cfar(intensity,           # (H, W) linear power
         looks=4,             # of its speckle
         guard=16,            # from the pixel to the ring around it, pixels
         reach=24,            # to the outer edge of the ring, pixels
         false_alarm=1e-6):   # share of pure speckle that is called bright
    "Return brightness as a multiple of the threshold. Source: Finn & Johnson 1968."
    if not 0 <= guard < reach:
        raise SarError(f"a ring from {guard} to {reach} pixels is empty: raise reach")
    x = intensity.double().cpu().numpy()
    inner, outer = 2 * guard + 1, 2 * reach + 1
    n = outer**2 - inner**2
    means = (k**2 * ndimage.uniform_filter(x, k) for k in (outer, inner))
    ring = (next(means) - next(means)) / n
    threshold = stats.f.isf(false_alarm, 2 * looks, 2 * looks * n)
    return torch.from_numpy(x / ring / threshold)


def cfar_boxes(intensity,    # (H, W) linear power
               gap=2,        # bright pixels so near are one target, pixels
               least=4,      # bright pixels that make a target
               **settings):  # to `cfar`
    "Return boxes (K, 4) and scores (K,) of bright spots, in a dict as torchvision's."
    over = cfar(intensity, **settings).numpy()
    spots = label(isotropic_closing(over > 1, gap)) * (over > 1)
    found = [r for r in regionprops(spots, over) if r.area >= least]
    boxes = [(r.bbox[1], r.bbox[0], r.bbox[3], r.bbox[2]) for r in found]
    return dict(boxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
                scores=torch.tensor([float(r.intensity_max) for r in found]))


def threshold_boxes(image, guard, **settings):
    power = to_unit(image[0], "db", "intensity")
    return cfar_boxes(power, least=16, looks=1, guard=guard, reach=guard + 8,
                      **settings)


def choose_thresholds(train):
    "Return {(labels, seed): the settings of CFAR that are best on these images}."
    settings = [dict(zip(GRID, values)) for values in product(*GRID.values())]
    found = [[match_boxes(threshold_boxes(image, **s), boxes) for image, boxes in train]
             for s in settings]
    best = {}
    for labels, seed in product(LABELS, SEEDS):
        ids = labelled(train, labels, seed)
        scores = [average_precision([f[i] for i in ids]) for f in found]
        best[labels, seed] = settings[max(range(len(scores)), key=scores.__getitem__)]
    return best


def redraw(runs, draws):
    "AP50, the mean over seeds: of all, then of each draw of seeds and images."
    return torch.tensor([
        sum(average_precision([runs[k][i] for i in images]) for k in seeds) / len(seeds)
        for seeds, images in draws], dtype=torch.float64)


def interval(x):
    "The score, and where 95 % of the draws lie."
    ends = x[1:].quantile(x.new_tensor([0.025, 0.975])).tolist()
    return [round(v, 4) for v in (x[0].item(), *ends)]


def score(args, parts):
    test, S = parts["test"], len(SEEDS)
    g = torch.Generator().manual_seed(0)
    draws = [([*range(S)], [*range(len(test))])] + [
        (torch.randint(S, (S,), generator=g).tolist(),
         torch.randint(len(test), (len(test),), generator=g).tolist())
        for _ in range(2000)]
    thresholds, rows = choose_thresholds(parts["train"]), []
    for labels in LABELS:
        runs, chosen = {}, {}
        chosen["CFAR"] = [thresholds[labels, seed] for seed in SEEDS]
        runs["CFAR"] = [[match_boxes(threshold_boxes(x, **s), b) for x, b in test]
                        for s in chosen["CFAR"]]
        for start in STARTS:
            lr, val = choose_lr(args, parts, start, labels)
            chosen[start] = dict(lr=lr, validation=val)
            runs[start] = [
                matches(trained(args, parts, start, labels, seed, lr)[0], test)
                for seed in SEEDS]
        spread = {arm: redraw(found, draws) for arm, found in runs.items()}
        for arm, found in runs.items():
            over = {f"over {other}": interval(spread[arm] - spread[other])
                    for other in runs if other != arm}
            rows.append(dict(
                labels=labels, arm=arm, ap50=interval(spread[arm]),
                seeds=[round(average_precision(f), 4) for f in found],
                chosen=chosen[arm]) | over)
            print(labels, arm, rows[-1]["ap50"], over, flush=True)
    source = dict(file=args.weights.name, sha256=read_label(args.weights)["sha256"])
    counts = {part: dict(images=len(ships), ships=sum(len(b) for _, b in ships))
              for part, ships in parts.items()}
    out = dict(command="python benchmarks/ships.py train; ... score", rows=rows,
               parts=counts, steps=STEPS, batch=BATCH, crop=CROP, lrs=LRS, grid=GRID,
               weights=source, machine=platform.machine(),
               torch=torch.__version__, di3cl=di3cl.__version__)
    write_json(ROOT / "benchmarks/results/ships.json", out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "score"))
    parser.add_argument("--data", type=Path, required=True, help="img/ and boxes_yolo/")
    parser.add_argument("--runs", type=Path, required=True, help="detectors, kept here")
    parser.add_argument("--labels", type=int, nargs="*", default=LABELS,
                        help="train with these numbers of labels only")
    parser.add_argument("--weights", type=Path,
                        default=ROOT / "release/di3cl-radar.safetensors")
    args = parser.parse_args()
    dict(train=train, score=score)[args.step](args, parts_of(args.data))
