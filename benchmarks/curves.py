"""What a step costs when batch, view, queue or number of boxes grows: time, memory."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import matplotlib.pyplot as plt
from steps import set_up, train_step
from stopwatch import memory, race, rows_of
from tqdm.auto import tqdm

AXES = dict(  # factors
    batch=(0.25, 0.5, 2, 4),
    view=(0.5, 1.5, 2, 3),
    queue_size=(0.25, 4, 16, 64),
    n_boxes=(0.25, 0.5, 2, 4),
)


def points(config):
    "List (axis, Config) of every point but the base, which is `config`."
    found = []
    for axis, factors in AXES.items():
        names = ("view", "tile", "min_size") if axis == "view" else (axis,)
        for factor in factors:
            scaled = {n: round(getattr(config, n) * factor) for n in names}
            found.append((axis, replace(config, **scaled)))
    return found


def in_fresh_process(f, *args, **kw):
    "Compute f(*args, **kw), a function of a module, in a new Python."
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(f, *args, **kw).result()


def point(axis, config, base, device, **kw):
    "Measure `config` beside `base`: a row of the curve of `axis`."
    step = set_up(config, device)
    memory(device, reset=True)
    for _ in range(2):
        train_step(*step)
    held, there = memory(device), set_up(base, device)
    name = str(getattr(config, axis))
    runners = {"base": lambda: train_step(*there), name: lambda: train_step(*step)}
    row = rows_of(
        "curves", axis, race(runners, device, **kw), config.batch, "pairs/s", "base",
        "x the time of the base", device)[1]
    return row._replace(ratio=1 / row.ratio, memory=held and held[1])


def bench_curves(config, device, **kw):
    "Measure every point, each in a process of its own, and the base on each axis."
    base = in_fresh_process(point, "batch", config, config, device, **kw)
    rows = []
    for axis in AXES:
        name = str(getattr(config, axis))
        rows.append(base._replace(setting=axis, name=name, ratio=1.))
    for axis, c in tqdm(points(config), desc="curves", unit="point", leave=False):
        rows.append(in_fresh_process(point, axis, c, config, device, **kw))
    order = list(AXES)
    return sorted(rows, key=lambda r: (order.index(r.setting), int(r.name)))


def draw_curves(rows):
    "Draw two rows of panels, one column an axis: time and memory."
    fig, axes = plt.subplots(
        2, len(AXES), figsize=(9.6, 4.4), layout="constrained", sharex="col",
        sharey="row")
    top = 1.3 * max(r.ratio for r in rows)
    for (time, held), axis in zip(axes.T, AXES):
        here = [r for r in rows if r.setting == axis]
        x, ratio = [int(r.name) for r in here], [r.ratio for r in here]
        base = x[ratio.index(1.)]
        time.plot(x, [v / base for v in x], ":", color="0.6")
        time.plot(x, ratio, "o-")
        low = min(0.2, *ratio) / 1.2
        time.set(xscale="log", yscale="log", ylim=(low, top))
        megabytes = [r.memory or float("nan") for r in here]
        held.plot(x, [m / 1e3 for m in megabytes], "o-", color="tab:orange")
        held.set_xlabel(axis)
        held.set_xticks(x, x, rotation=90)
        for ax in (time, held):
            ax.minorticks_off()
    axes[0, 0].set_ylabel("time of a step,\nx the base")
    most = max(r.memory or 0 for r in rows)
    axes[1, 0].set(ylabel="peak memory, GB", ylim=(0, 1.1e-3 * most or None))
    return fig
