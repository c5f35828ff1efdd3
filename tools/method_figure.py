"""Draw the method in six steps, for the first page and the README: nbs/images/method.png.

    python tools/method_figure.py            # a few seconds; the last step shows benchmarks/results/demo.json
"""
import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from PIL import Image
from torch.nn.functional import avg_pool2d

from di3cl.contours import contour_map
from di3cl.instances import sample_boxes
from di3cl.sar import show, speckle, to_unit
from di3cl.scenes import simulate
from di3cl.views import crop_resize

ROOT = Path(__file__).resolve().parents[1]
BLUE, ORANGE = "#1f77b4", "#e8710a"
COLOURS = ["#1b9e77", "#d95f02", "#7570b3", "#e7298a"]

def frame(ax, x0, y0, x1, y1, colour, **kw): ax.add_patch(Rectangle((x0 - .5, y0 - .5), x1 - x0, y1 - y0, fill=False, ec=colour, lw=2, **kw))

def picture(scene=5, size=224):
    "The tile, two crops of it, boxes on the ground of both, and what they look like."
    tile = simulate(1, 256, start=scene).image
    crops = torch.tensor([[20., 25, 170, 170, 0]]), torch.tensor([[75., 70, 165, 165, 1]])
    g = torch.Generator().manual_seed(4)
    views = [to_unit(speckle(crop_resize(to_unit(tile, "db", "intensity"), p, size).clamp_min(1e-6), looks, g), "intensity", "db")[0, 0] for p, looks in zip(crops, (8, 3))]
    return tile[0, 0], crops, views, sample_boxes(*crops, size, n_boxes=4, min_size=40, max_iou=0.1, generator=g)

def pair(grid, title, draw):
    "Two small panels, one above the other, under one title."
    for k, cell in enumerate(grid.subgridspec(2, 1, hspace=.08)):
        ax = plt.gcf().add_subplot(cell)
        draw(ax, k)
        ax.set_xticks([]); ax.set_yticks([])
        for spine in ax.spines.values(): spine.set(color=(BLUE, ORANGE)[k], linewidth=2)
        if k == 0: ax.set_title(title, fontsize=10, loc="left")

def main():
    tile, crops, views, boxes = picture()
    maps = [contour_map(avg_pool2d((v[None, None] + 60), 9, stride=2, padding=4, count_include_pad=False))[0, 0] for v in views]     # averages over 9 pixels, for an encoder's shallow features
    fig = plt.figure(figsize=(13.4, 4.5))
    grid = fig.add_gridspec(1, 6, width_ratios=(2.06, 1, 1, 1, 1.45, 1.45), left=.005, right=.99, top=.90, bottom=.19, wspace=.16)

    ax = fig.add_subplot(grid[0]); show(tile, ax); ax.set_title("1  a tile without labels, two crops", fontsize=10, loc="left")
    for p, colour in zip(crops, (BLUE, ORANGE)): frame(ax, p[0, 1], p[0, 0], p[0, 1] + p[0, 3], p[0, 0] + p[0, 2], colour)
    pair(grid[1], "2  two views", lambda ax, k: show(views[k], ax))
    def boxed(ax, k):
        show(views[k], ax)
        for i, (b, colour) in enumerate(zip((boxes.view1, boxes.view2)[k][0][boxes.valid[0]], COLOURS)):
            frame(ax, *b.tolist(), colour); ax.text(float(b[0]) + 6, float(b[1]) + 24, str(i + 1), color="white", fontsize=8, weight="bold", bbox=dict(fc=colour, ec="none", pad=1))
    pair(grid[2], "3  dynamic instances", boxed)
    pair(grid[3], "4  contours", lambda ax, k: ax.imshow(maps[k], cmap="magma"))

    ax = fig.add_subplot(grid[4]); ax.axis("off"); ax.set(xlim=(-1.35, 1.35), ylim=(-1.6, 1.45), aspect="equal")
    ax.set_title("5  pull the pair, push the queue", fontsize=10, loc="left")
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, ec=".8"))
    angle = torch.linspace(1.5, 5.3, 14) + .12 * torch.randn(14, generator=torch.Generator().manual_seed(1))
    ax.plot(angle.cos(), angle.sin(), "o", color=".6", ms=5)
    for a, colour, name in ((.75, BLUE, "query"), (.2, ORANGE, "key")):
        a = torch.tensor(a); ax.annotate("", (a.cos(), a.sin()), (0, 0), arrowprops=dict(arrowstyle="-|>", color=colour, lw=2)); ax.text(1.07 * a.cos(), 1.07 * a.sin() + .05, name, color=colour, fontsize=9)
    ax.text(0, -1.12, "queue of earlier keys", ha="center", va="top", fontsize=9, color=".4")
    ax.text(0, -1.55, "0.8 image + 0.2 shallow + 5 region", ha="center", fontsize=9)

    demo = json.loads((ROOT / "benchmarks/results/demo.json").read_text())["results"]
    ax = fig.add_subplot(grid[5]); ax.set_title("6  what it learned in minutes", fontsize=10, loc="left")
    for x, (name, label) in enumerate((("before", "before"), ("after", "after"), ("image statistics", "no network"))):
        value, low, high = demo[name]
        ax.bar(x, value, color=(".75", BLUE, ".9")[x], yerr=[[value - low], [high - value]], ecolor=".3"); ax.text(x, .03, f"{value:.2f}", ha="center", fontsize=10)
        ax.text(x, -.05, label, ha="center", va="top", fontsize=9)
    ax.set(xticks=[], ylim=(0, 1)); ax.tick_params(labelsize=8); ax.spines[["top", "right"]].set_visible(False)
    for x, text in ((.005, "real or simulated radar,\nin a declared unit"), (.255, "cropped and averaged in intensity,\nspeckled; the same ground has the same number;\nshallow features must agree on edges")): fig.text(x, .01, text, fontsize=9, color=".35", va="bottom")
    fig.text(.815, .01, "balanced accuracy of ten classes,\nnearest neighbours, one seed;\nno network: a dozen image statistics", fontsize=9, color=".35", va="bottom")
    out = ROOT / "nbs/images/method.png"
    fig.savefig(out, dpi=110, facecolor="white")
    Image.open(out).convert("RGB").quantize(128).save(out, optimize=True)

if __name__ == "__main__": main()
