"""Change between two dates on the Ottawa and Sulzberger pairs: distance of features
beside the log-ratio.

    python benchmarks/change.py --data DATA
        # -> benchmarks/results/change.json, about a minute on one core

DATA holds ottawa_1.bmp, ottawa_2.bmp, ottawa_gt.bmp and Sulzberger1_1.bmp, ...
(github.com/summitgao/SAR_CD_DDNet, SAR_Change_Detection_CWNN); they are not part of the
project. Rules, none of which looks at the truth of these pairs: window of the log-ratio
and stages of the features are those with the largest kappa on simulated floods; a
distance counts as change from Otsu's threshold of that map on, or from the threshold
that was best on the simulated floods. The pictures are 8-bit and uncalibrated: their
numbers are taken for amplitude, and both dates of a pair are moved by the same dB, so
that the median of the earlier one is the mean of the contract.
"""

import argparse
import json
import platform
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
WINDOWS, STAGES = (1, 3, 5, 7, 9, 13), ((1,), (2,), (1, 2), (1, 2, 3))
WIDER = (19, 25, 31)  # windows that are only looked at, to see what blur costs

PAIRS = dict(Ottawa="ottawa", Sulzberger="Sulzberger1")


def real_pair(folder, name, level):
    """(before, after) in dB, moved together so that the median of the former is
    `level`; the truth."""
    before, after = (
        to_unit(
            read_sar(folder / f"{name}_{k}.bmp", unit="amplitude")
            .data[:1]
            .clamp(min=1),
            "amplitude",
            "db",
        )[None]
        for k in (1, 2)
    )
    return *(x - before.median() + level for x in (before, after)), read_sar(
        folder / f"{name}_gt.bmp", unit="digital"
    ).data[:1] > 127


def main(data, weights):
    encoder, preprocess = load(weights)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = Encoder(encoder.arch, encoder.in_channels, encoder.stride)
    families = {
        "log-ratio": (WINDOWS, lambda w: lambda b, a: log_ratio(b, a, "db", w)),
        "random features": (
            STAGES,
            lambda s: lambda b, a: change_map(untrained, preprocess, b, a, "db", s),
        ),
        "pre-trained features": (
            STAGES,
            lambda s: lambda b, a: change_map(encoder, preprocess, b, a, "db", s),
        ),
    }
    train, rows, chosen = flood_pairs(24, 5000), [], {}
    for name, (settings, make) in families.items():
        cut, kappa, setting = max(
            (
                (*best_threshold(make(s)(train.before, train.after), train.flood), s)
                for s in settings
            ),
            key=lambda t: t[1],
        )
        chosen[name] = dict(setting=setting, threshold=cut, kappa_simulated=kappa)
        for pair, file in PAIRS.items():
            before, after, truth = real_pair(data, file, preprocess.mean[0])
            d = make(setting)(before, after)
            for rule, threshold in (("otsu", otsu(d)), ("elsewhere", cut)):
                n = confusion_matrix(truth.long(), (d >= threshold).long(), 2, None)
                r = segmentation_report(n)
                rows.append(
                    dict(
                        pair=pair,
                        way=name,
                        rule=rule,
                        threshold=threshold,
                        kappa=r.kappa,
                        oa=r.oa,
                        f1=float(r.f1[1]),
                        area=roc_auc_score(truth.flatten(), d.flatten()),
                        best_kappa_with_the_truth=best_threshold(d, truth)[1],
                        confusion=n.tolist(),
                    )
                )
                area = rows[-1]["area"]
                print(
                    f"{pair:12}{name:24}{rule:12}kappa {r.kappa:.3f}   area {area:.3f}",
                    flush=True,
                )
    otherwise = [
        dict(
            pair=pair,
            way=name,
            setting=s,
            kappa=segmentation_report(
                confusion_matrix(
                    truth.long(),
                    ((d := make(s)(before, after)) >= otsu(d)).long(),
                    2,
                    None,
                )
            ).kappa,
        )
        for pair, file in PAIRS.items()
        for before, after, truth in [real_pair(data, file, preprocess.mean[0])]
        for name, (settings, make) in families.items()
        for s in (*settings, *(WIDER if name == "log-ratio" else ()))
    ]
    out = dict(
        rows=rows,
        chosen=chosen,
        otsu_with_other_settings=otherwise,
        pairs_simulated=24,
        weights=dict(
            file=weights.name,
            **{k: read_label(weights)[k] for k in ("sha256", "provenance")},
        ),
        machine=platform.machine(),
        torch=torch.__version__,
        di3cl=di3cl.__version__,
    )
    write_atomic(
        ROOT / "benchmarks/results/change.json",
        (json.dumps(out, indent=1) + "\n").encode(),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the .bmp files"
    )
    parser.add_argument(
        "--weights", type=Path, default=ROOT / "release/di3cl-tiny.safetensors"
    )
    args = parser.parse_args()
    main(args.data, args.weights)
