"""Draw the method in its default reading, for the first page: nbs/images/method.png.

    python tools/method_figure.py

It takes a few seconds. Nothing is drawn that a run without options does not train.
"""
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from PIL import Image

from di3cl.instances import sample_boxes
from di3cl.sar import show, speckle, to_unit
from di3cl.scenes import simulate
from di3cl.views import crop_resize

ROOT = Path(__file__).resolve().parents[1]
BLUE, ORANGE = "#1f77b4", "#e8710a"
COLOURS = ["#1b9e77", "#d95f02", "#7570b3", "#e7298a"]
TEXT = 12    # points at 10 inches: about as many pixels on a page
QUESTIONS = {
    "image": "Which of these keys is mine?\nasked of whole views, stage 4",
    "contour": "Which of these keys is mine?\nasked of shallower features, stage 3",
    "region": "What does the other view\nshow in box 2? stage 4",
}
WEIGHTS = {"image": 0.8, "contour": 0.2, "region": 5}


def frame(ax, x0, y0, x1, y1, colour):
    "Draw a box."
    ax.add_patch(Rectangle(
        (x0 - .5, y0 - .5), x1 - x0, y1 - y0, fill=False, ec=colour, lw=2.5))


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
    ax.set_title("1  a tile, two crops", fontsize=TEXT, loc="left")
    for params, colour in zip(crops, (BLUE, ORANGE)):
        top, left, height, width, _ = params[0]
        frame(ax, left, top, left + width, top + height, colour)


def draw_view(ax, view, boxes, colour):
    "Draw a view with its numbered boxes."
    show(view, ax)
    for i, (box, own) in enumerate(zip(boxes.tolist(), COLOURS), 1):
        frame(ax, *box, own)
        ax.text(box[0] + 7, box[1] + 32, str(i), color="white", fontsize=TEXT - 2,
                weight="bold", bbox=dict(fc=own, ec="none", pad=1))
    for spine in ax.spines.values():
        spine.set(color=colour, linewidth=3)


def draw_arrow(ax, angle, colour):
    "Draw a unit vector."
    tip = torch.tensor([angle]).cos().item(), torch.tensor([angle]).sin().item()
    ax.annotate("", tip, (0, 0), arrowprops=dict(arrowstyle="-|>", color=colour, lw=2))


def draw_question(ax, name):
    "Draw query and key on the unit circle, and for two of three the queue."
    ax.axis("off")
    ax.set(xlim=(-1.2, 8.4), ylim=(-1.2, 1.2), aspect="equal", anchor="W")
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, ec=".8"))
    if name != "region":
        g = torch.Generator().manual_seed(len(name))
        angle = torch.linspace(1.5, 5.3, 12) + .12 * torch.randn(12, generator=g)
        ax.plot(angle.cos(), angle.sin(), "o", color=".6", ms=4)
    draw_arrow(ax, .85, BLUE)
    draw_arrow(ax, .3, ORANGE)
    ax.text(1.5, .62, f"{WEIGHTS[name]} x {name}", fontsize=TEXT, weight="bold",
            va="center")
    ax.text(1.5, -.35, QUESTIONS[name], fontsize=TEXT - 1, va="center", color=".25")


def main():
    tile, crops, views, boxes = picture()
    inside = [b[0][boxes.valid[0]] for b in (boxes.view1, boxes.view2)]
    fig = plt.figure(figsize=(10, 4))
    grid = fig.add_gridspec(
        1, 3, width_ratios=(2.08, 1, 2.9), left=.005, right=.995, top=.92, bottom=.11,
        wspace=.04)
    draw_tile(fig.add_subplot(grid[0]), tile, crops)
    for k, cell in enumerate(grid[1].subgridspec(2, 1, hspace=.06)):
        ax = fig.add_subplot(cell)
        draw_view(ax, views[k], inside[k], (BLUE, ORANGE)[k])
        if k == 0:
            ax.set_title("2  two views", fontsize=TEXT, loc="left")
    for k, cell in enumerate(grid[2].subgridspec(3, 1, hspace=.04)):
        ax = fig.add_subplot(cell)
        draw_question(ax, list(QUESTIONS)[k])
        if k == 0:
            ax.set_title("3  three questions, one loss", fontsize=TEXT, loc="left")
    for x, words, colour in ((.35, "same number: same ground", ".35"),
                             (.62, "query (view 1)", BLUE),
                             (.765, "key (view 2)", ORANGE),
                             (.89, "earlier keys", ".45")):
        fig.text(x, .03, words, fontsize=TEXT - 1, color=colour)
    out = ROOT / "nbs/images/method.png"
    fig.savefig(out, dpi=110, facecolor="white")
    Image.open(out).convert("RGB").quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main()
