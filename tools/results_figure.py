"""Draw what came of it, for the first page: nbs/images/results.png.

    python tools/results_figure.py

The numbers are those of benchmarks/results/pilot.json.
"""
import json
from pathlib import Path

import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
ARMS = {   # as the file names them; as the picture does, with a colour
    "brightness alone": ("no network: trees on\nmeans of brightness", "0.6"),
    "random": ("untrained encoder", "0.6"),
    "DI3CL": ("pre-trained, as published", "#e8710a"),
}


def scores():
    "Return {(labelled tiles, arm): (mIoU, low, high)}, and mIoU of one class only."
    pilot = json.loads((ROOT / "benchmarks/results/pilot.json").read_text())
    rows = [r for r in pilot["rows"] if r["score"] == "miou" and r["way"] == "frozen"]
    found = {(r["labels"], r["arm"]): r["value"] for r in rows
             if r["task"] == "landcover" and r["arm"] in ARMS}
    shares = pilot["tasks"]["landcover"]["classes"].values()
    return found, max(shares) / 100 / len(shares)


def main():
    found, chance = scores()
    fig, axes = plt.subplots(
        1, 2, figsize=(9, 2.6), sharex=True, sharey=True, layout="constrained")
    for ax, labels in zip(axes, (8, 64)):
        for k, (arm, (_, colour)) in enumerate(ARMS.items()):
            value, low, high = found[labels, arm]
            ax.barh(k, value, color=colour, height=0.6)
            ax.plot([low, high], [k, k], color="black", lw=1.5)
            ax.text(high + 0.008, k, f"{value:.2f}", va="center", fontsize=12)
        ax.axvline(chance, color="black", ls=":", lw=1)
        ax.set_title(f"{labels} labelled tiles", loc="left", fontsize=12)
        ax.tick_params(labelsize=11)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(ARMS)), [name for name, _ in ARMS.values()])
    axes[0].invert_yaxis()
    axes[0].set_xlim(0, 0.42)
    fig.supxlabel("mean IoU of ten classes of simulated land cover", fontsize=11)
    fig.savefig(ROOT / "nbs/images/results.png", dpi=110)


if __name__ == "__main__":
    main()
