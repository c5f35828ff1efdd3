"""Change between two dates on the Ottawa and Sulzberger pairs: features, or the ratio?

    python benchmarks/change.py --data DATA

writes benchmarks/results/change.json in about a minute on one core. DATA holds
ottawa_1.bmp, ottawa_2.bmp, ottawa_gt.bmp and Sulzberger1_1.bmp, ... (of
github.com/summitgao/SAR_CD_DDNet and SAR_Change_Detection_CWNN); they are not part of
the project. Rules, none of which looks at the truth of these pairs: window of the
log-ratio and stages of the features are those with the largest kappa on simulated
floods; a distance counts as change from Otsu's threshold of that map on, or from the
threshold that was best on the simulated floods. The pictures are 8-bit and
uncalibrated: their numbers are taken for amplitude, and both dates of a pair are moved
by the same dB, so that the median of the earlier one is the mean of the contract.
"""
import argparse
import json
import platform
from functools import partial
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score

import di3cl
from di3cl.encoder import Encoder
from di3cl.evaluate.metrics import confusion_matrix, segmentation_report
from di3cl.files import write_atomic
from di3cl.sar import read_sar, to_unit
from di3cl.tasks.change import best_threshold, change_map, flood_pairs, log_ratio, otsu
from di3cl.weights import load, read_label

ROOT = Path(__file__).parents[1]
WINDOWS = (1, 3, 5, 7, 9, 13)
WIDER = (19, 25, 31)                    # only looked at, to see what blur costs
STAGES = ((1,), (2,), (1, 2), (1, 2, 3))
PAIRS = dict(Ottawa="ottawa", Sulzberger="Sulzberger1")


def real_pair(folder, name, level):
    "Return (before, after) in dB, the median of the former at `level`, and the truth."
    dates = []
    for k in (1, 2):
        image = read_sar(folder / f"{name}_{k}.bmp", unit="amplitude").data[:1]
        dates.append(to_unit(image.clamp(min=1), "amplitude", "db")[None])
    truth = read_sar(folder / f"{name}_gt.bmp", unit="digital").data[:1] > 127
    shift = level - dates[0].median()
    return dates[0] + shift, dates[1] + shift, truth


def make_families(encoder, preprocess):
    "Return {way: (settings to choose from, function of dates and setting)}."
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = Encoder(
            encoder.arch, encoder.in_channels, encoder.stride, width=encoder.width)

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


def main(data, weights):
    encoder, preprocess = load(weights)
    train, rows, chosen, others = flood_pairs(24, 5000), [], {}, []
    for name, (settings, way) in make_families(encoder, preprocess).items():
        best = chosen[name] = choose(settings, way, train)
        for pair, file in PAIRS.items():
            before, after, truth = real_pair(data, file, preprocess.mean[0])
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
    out = dict(rows=rows, chosen=chosen, otsu_with_other_settings=others,
               pairs_simulated=24, weights=source, machine=platform.machine(),
               torch=torch.__version__, di3cl=di3cl.__version__)
    text = json.dumps(out, indent=1) + "\n"
    write_atomic(ROOT / "benchmarks/results/change.json", text.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .bmp")
    parser.add_argument("--weights", type=Path,
                        default=ROOT / "release/di3cl-tiny.safetensors")
    args = parser.parse_args()
    main(args.data, args.weights)
