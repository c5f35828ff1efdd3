"""Draw the method in six steps, for the first page: nbs/images/method.png.

    python tools/method_figure.py

It takes a few seconds; the last step shows benchmarks/results/demo.json.
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
TITLE = dict(fontsize=10, loc="left")
NOTES = {
    0.005: "real or simulated radar,\nin a declared unit",
    0.255: "cropped and averaged in intensity,\nspeckled; the same ground has the "
           "same number;\nshallow features must agree on edges",
    0.815: "balanced accuracy of ten classes,\nnearest neighbours, one seed;\n"
           "no network: a dozen image statistics",
}


def frame(ax, x0, y0, x1, y1, colour):
    "Draw a box."
    ax.add_patch(Rectangle(
        (x0 - .5, y0 - .5), x1 - x0, y1 - y0, fill=False, ec=colour, lw=2))


def make_view(tile, params, looks, size, generator):
    "Crop in intensity, speckle, return to dB."
    view = crop_resize(to_unit(tile, "db", "intensity"), params, size).clamp_min(1e-6)
    return to_unit(speckle(view, looks, generator), "intensity", "db")[0, 0]


def picture(scene=5, size=224):
    "Return the tile, two crops of it, what they look like, and boxes in both."
    tile = simulate(1, 256, start=scene).image
    crops = (torch.tensor([[20., 25, 170, 170, 0]]),
             torch.tensor([[75., 70, 165, 165, 1]]))
    g = torch.Generator().manual_seed(4)
    views = [make_view(tile, p, looks, size, g) for p, looks in zip(crops, (8, 3))]
    boxes = sample_boxes(
        *crops, size, n_boxes=4, min_size=40, max_iou=0.1, generator=g)
    return tile[0, 0], crops, views, boxes


def draw_tile(ax, tile, crops):
    show(tile, ax)
    ax.set_title("1  a tile without labels, two crops", **TITLE)
    for params, colour in zip(crops, (BLUE, ORANGE)):
        top, left, height, width, _ = params[0]
        frame(ax, left, top, left + width, top + height, colour)


def draw_pair(grid, title, draw):
    "Draw two small panels, one above the other, under one title."
    for k, cell in enumerate(grid.subgridspec(2, 1, hspace=.08)):
        ax = plt.gcf().add_subplot(cell)
        draw(ax, k)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(color=(BLUE, ORANGE)[k], linewidth=2)
        if k == 0:
            ax.set_title(title, **TITLE)


def draw_boxes(ax, view, boxes):
    show(view, ax)
    for i, (box, colour) in enumerate(zip(boxes.tolist(), COLOURS), 1):
        frame(ax, *box, colour)
        ax.text(box[0] + 6, box[1] + 24, str(i), color="white", fontsize=8,
                weight="bold", bbox=dict(fc=colour, ec="none", pad=1))


def draw_circle(ax):
    "Draw query, key and queue on the unit circle."
    ax.axis("off")
    ax.set(xlim=(-1.35, 1.35), ylim=(-1.6, 1.45), aspect="equal")
    ax.set_title("5  pull the pair, push the queue", **TITLE)
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, ec=".8"))
    g = torch.Generator().manual_seed(1)
    angle = torch.linspace(1.5, 5.3, 14) + .12 * torch.randn(14, generator=g)
    ax.plot(angle.cos(), angle.sin(), "o", color=".6", ms=5)
    for angle, colour, name in ((.75, BLUE, "query"), (.2, ORANGE, "key")):
        x, y = torch.tensor(angle).cos(), torch.tensor(angle).sin()
        arrow = dict(arrowstyle="-|>", color=colour, lw=2)
        ax.annotate("", (x, y), (0, 0), arrowprops=arrow)
        ax.text(1.07 * x, 1.07 * y + .05, name, color=colour, fontsize=9)
    ax.text(0, -1.12, "queue of earlier keys", ha="center", va="top", fontsize=9,
            color=".4")
    ax.text(0, -1.55, "0.8 image + 0.2 shallow + 5 region", ha="center", fontsize=9)


def draw_gain(ax):
    "Draw what nearest neighbours make of the features, before and after."
    ax.set_title("6  what it learned in minutes", **TITLE)
    demo = json.loads((ROOT / "benchmarks/results/demo.json").read_text())["results"]
    names = {"before": "before", "after": "after", "image statistics": "no network"}
    for x, (name, label) in enumerate(names.items()):
        value, low, high = demo[name]
        ax.bar(x, value, color=(".75", BLUE, ".9")[x], ecolor=".3",
               yerr=[[value - low], [high - value]])
        ax.text(x, .03, f"{value:.2f}", ha="center", fontsize=10)
        ax.text(x, -.05, label, ha="center", va="top", fontsize=9)
    ax.set(xticks=[], ylim=(0, 1))
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def main():
    tile, crops, views, boxes = picture()
    # averages over 9 pixels stand for an encoder's shallow features
    shallow = [avg_pool2d(v[None, None] + 60, 9, stride=2, padding=4,
                          count_include_pad=False) for v in views]
    inside = [b[0][boxes.valid[0]] for b in (boxes.view1, boxes.view2)]
    fig = plt.figure(figsize=(13.4, 4.5))
    grid = fig.add_gridspec(
        1, 6, width_ratios=(2.06, 1, 1, 1, 1.45, 1.45), left=.005, right=.99, top=.90,
        bottom=.19, wspace=.16)

    draw_tile(fig.add_subplot(grid[0]), tile, crops)
    draw_pair(grid[1], "2  two views", lambda ax, k: show(views[k], ax))
    draw_pair(grid[2], "3  dynamic instances",
              lambda ax, k: draw_boxes(ax, views[k], inside[k]))
    draw_pair(grid[3], "4  contours",
              lambda ax, k: ax.imshow(contour_map(shallow[k])[0, 0], cmap="magma"))
    draw_circle(fig.add_subplot(grid[4]))
    draw_gain(fig.add_subplot(grid[5]))
    for x, text in NOTES.items():
        fig.text(x, .01, text, fontsize=9, color=".35", va="bottom")
    out = ROOT / "nbs/images/method.png"
    fig.savefig(out, dpi=110, facecolor="white")
    Image.open(out).convert("RGB").quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main()
