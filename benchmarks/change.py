"""Change between two dates on the Ottawa and Sulzberger pairs: features, or the ratio?

    python benchmarks/change.py --data FOLDER [FOLDER ...]

writes benchmarks/results/change.json in about a minute on one core. The folders hold
ottawa_1.bmp, ottawa_2.bmp, ottawa_gt.bmp and Sulzberger1_1.bmp, ... (of
github.com/summitgao/SAR_CD_DDNet and SAR_Change_Detection_CWNN), and san_1.png, ...,
yellow_A_1.png, ... (of github.com/yulisun/INLPG and github.com/summitgao/NR_ELM); they
are not part of the project. The first two are looked at in every way; on all six the
command `di3cl change` is scored, with its defaults, each date a GeoTIFF in dB.

Rules, none of which looks at the truth of these pairs: window of the log-ratio and
stages of the features are those with the largest kappa on simulated floods; a distance
counts as change from Otsu's threshold of that map on, or from the threshold that was
best on the simulated floods. The pictures are 8-bit and uncalibrated: their numbers are
taken for amplitude. A relative contract tells both dates of a pair by one median and
spread; for weights of another contract both are moved by the same dB, so that the
median of the earlier one is the mean of the contract. Intervals of the command's scores
are over blocks of 32 x 32 pixels.
"""
import argparse
import platform
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import rasterio
import torch
from rasterio.transform import from_origin
from sklearn.metrics import roc_auc_score
from stopwatch import write_json

import di3cl
from di3cl.evaluate.metrics import (
    bootstrap_interval,
    confusion_matrix,
    segmentation_report,
    tile_confusions,
)
from di3cl.evaluate.report import make_untrained
from di3cl.sar import RELATIVE, read_sar, to_unit
from di3cl.tasks.change import (
    best_threshold,
    change_map,
    flood_pairs,
    log_ratio,
    map_change,
    otsu,
)
from di3cl.weights import load, read_label

ROOT = Path(__file__).parents[1]
WINDOWS = (1, 3, 5, 7, 9, 13)
WIDER = (19, 25, 31)                    # only looked at, to see what blur costs
STAGES = ((1,), (2,), (1, 2), (1, 2, 3))
PAIRS = dict(Ottawa="ottawa", Sulzberger="Sulzberger1")
MORE = {"San Francisco": "san", "Yellow River A": "yellow_A",
        "Yellow River B": "yellow_B", "Yellow River C": "yellow_C"}
BLOCK, SURE = 32, 0.9


def real_pair(folders, name, level):
    """Return (before, after) in dB and the truth.

    The median of the former is at `level`, where one is given."""
    def read(which, unit):
        path = next(p for f in folders for p in sorted(f.glob(f"{name}_{which}.*")))
        return read_sar(path, unit=unit).data[:1]

    dates = [to_unit(read(k, "amplitude").clamp(min=1), "amplitude", "db")[None]
             for k in (1, 2)]
    truth = read("gt", "digital") > 127
    shift = 0 if level is None else level - dates[0].median()
    return dates[0] + shift, dates[1] + shift, truth


def make_families(encoder, preprocess):
    "Return {way: (settings to choose from, function of dates and setting)}."
    untrained = make_untrained(encoder)

    def ratio(before, after, window):
        return log_ratio(before, after, "db", window)

    def features(net, before, after, stages):
        return change_map(net, preprocess, before, after, "db", stages)

    return {"log-ratio": (WINDOWS, ratio),
            "random features": (STAGES, partial(features, untrained)),
            "pre-trained features": (STAGES, partial(features, encoder))}


def score(distance, truth, threshold):
    "Return the report and the confusion matrix of a decision."
    n = confusion_matrix(truth.long(), (distance >= threshold).long(), 2, None)
    return segmentation_report(n), n


def choose(settings, way, train):
    "Return the setting that is best on simulated floods, with threshold and kappa."
    found = []
    for setting in settings:
        distance = way(train.before, train.after, setting)
        threshold, kappa = best_threshold(distance, train.flood)
        found.append(dict(setting=setting, threshold=threshold, kappa_simulated=kappa))
    return max(found, key=lambda f: f["kappa_simulated"])


def rows_of(pair, name, distance, truth, elsewhere):
    "Return a row for each rule of the threshold."
    rows = []
    for rule, threshold in (("otsu", otsu(distance)), ("elsewhere", elsewhere)):
        report, n = score(distance, truth, threshold)
        rows.append(dict(
            pair=pair, way=name, rule=rule, threshold=threshold, kappa=report.kappa,
            oa=report.oa, f1=float(report.f1[1]),
            area=roc_auc_score(truth.flatten(), distance.flatten()),
            best_kappa_with_the_truth=best_threshold(distance, truth)[1],
            confusion=n.tolist()))
        print(f"{pair:12}{name:24}{rule:12}kappa {report.kappa:.3f}", flush=True)
    return rows


def run_command(folder, before, after, weights):
    "Return what `di3cl change` says of two dates: (changed, confidence), each (H, W)."
    for name, x in (("before", before), ("after", after)):
        with rasterio.open(
                folder / f"{name}.tif", "w", driver="GTiff", dtype="float32", count=1,
                height=x.shape[2], width=x.shape[3], crs="EPSG:32632",
                transform=from_origin(6e5, 6e6, 10, 10)) as f:
            f.write(x[0].numpy())
            f.update_tags(unit="db")
    out, sure = folder / "change.tif", folder / "sure.tif"
    map_change(folder / "before.tif", folder / "after.tif", out, weights,
               probabilities=sure, device="cpu")
    with rasterio.open(out) as f, rasterio.open(sure) as g:
        return torch.from_numpy(f.read(1)) > 0, torch.from_numpy(g.read()).amax(0) / 250


def in_blocks(x):
    "Return (blocks, BLOCK, BLOCK) of (H, W); what is left at the ends is left out."
    whole = x.unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK)
    return whole.reshape(-1, BLOCK, BLOCK)


def kappa(n):
    return segmentation_report(n.sum(0)).kappa


def score_command(folders, weights, level):
    "Return rows of kappa by pair and way, and by way what confidence is worth."
    rows, sure = [], dict(ratio=[], features=[])
    for pair, name in (PAIRS | MORE).items():
        before, after, truth = real_pair(folders, name, level)
        counts = []
        for way, given in dict(ratio="ratio", features=weights).items():
            with TemporaryDirectory() as folder:
                changed, p = run_command(Path(folder), before, after, given)
            n = tile_confusions(*(in_blocks(x.long()) for x in (truth[0], changed)),
                                2, None)
            counts.append(n)
            rows.append(dict(pair=pair, way=way, blocks=len(n),
                             kappa=bootstrap_interval(n, kappa)._asdict()))
            sure[way].append(torch.stack([p >= SURE, changed == truth[0]]).flatten(1))
        gap = bootstrap_interval(
            torch.stack(counts, 1), lambda n: kappa(n[:, 1]) - kappa(n[:, 0]))
        rows.append(dict(pair=pair, way="features minus ratio", kappa=gap._asdict()))
        print(*(f"{r['way']} {r['kappa']['value']:.3f}" for r in rows[-3:]), pair)
    return rows, {way: worth(torch.cat(found, 1)) for way, found in sure.items()}


def worth(found):
    "Return how many pixels are right, of those it is sure of and of the others."
    sure, right = found[0], found[1].double()
    return dict(sure=right[sure].mean().item(), others=right[~sure].mean().item(),
                share_of_others=(~sure).double().mean().item())


def main(data, weights):
    encoder, preprocess = load(weights)
    level = None if preprocess.unit == RELATIVE else preprocess.mean[0]
    train, rows, chosen, others = flood_pairs(24, 5000), [], {}, []
    for name, (settings, way) in make_families(encoder, preprocess).items():
        best = chosen[name] = choose(settings, way, train)
        for pair, file in PAIRS.items():
            before, after, truth = real_pair(data, file, level)
            distance = way(before, after, best["setting"])
            rows += rows_of(pair, name, distance, truth, best["threshold"])
            wider = WIDER if name == "log-ratio" else ()
            for setting in (*settings, *wider):
                distance = way(before, after, setting)
                kappa = score(distance, truth, otsu(distance))[0].kappa
                others.append(dict(pair=pair, way=name, setting=setting, kappa=kappa))
    label = read_label(weights)
    source = dict(file=weights.name, sha256=label["sha256"],
                  provenance=label["provenance"])
    command, confidence = score_command(data, weights, level)
    out = dict(rows=rows, mapped=command, confidence=confidence, chosen=chosen,
               otsu_with_other_settings=others,
               pairs_simulated=24, weights=source, machine=platform.machine(),
               torch=torch.__version__, di3cl=di3cl.__version__)
    write_json(ROOT / "benchmarks/results/change.json", out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, nargs="+",
                        help="folders of the pictures")
    parser.add_argument("--weights", type=Path,
                        default=ROOT / "release/di3cl-radar.safetensors")
    args = parser.parse_args()
    main(args.data, args.weights)
