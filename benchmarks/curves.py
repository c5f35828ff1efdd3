"""What a step costs when the batch, the view, the queue or the number of boxes grows: time and memory."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from statistics import median

import torch
from tqdm.auto import tqdm

from di3cl.pretrain import Pairs
from di3cl.train.distributed import Engine, in_processes, rank, size
from stopwatch import memory, race, rows_of, stopwatch
from steps import set_up, train_step

AXES = dict(batch=(0.25, 0.5, 2, 4), view=(0.5, 1.5, 2, 3), queue_size=(0.25, 4, 16, 64), n_boxes=(0.25, 0.5, 2, 4))   # factors

def points(config):                  # the base, a Config
    "(axis, Config) of every point but the base."
    def scaled(axis, f):
        names = ("view", "tile", "min_size") if axis == "view" else (axis,)
        return replace(config, **{name: round(getattr(config, name) * f) for name in names})
    return [(axis, scaled(axis, f)) for axis, factors in AXES.items() for f in factors]

def in_fresh_process(f, *args, **kw):        # a function of a module, and what it is called with
    "f(*args, **kw), computed in a new Python."
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool: return pool.submit(f, *args, **kw).result()

def point(axis, config, base, device, **kw): # ...; the point and the base, two Configs; torch device; kw as in `race`
    "A row of the curve of `axis`."
    step = set_up(config, device)
    memory(device, reset=True)
    for _ in range(2): train_step(*step)
    held, there = memory(device), set_up(base, device)
    times = race({"base": lambda: train_step(*there), str(getattr(config, axis)): lambda: train_step(*step)}, device, **kw)
    row = rows_of("curves", axis, times, config.batch, "pairs/s", "base", "x the time of the base", device)[1]
    return row._replace(ratio=1 / row.ratio, memory=held and held[1])

def bench_curves(config, device, **kw):
    "Every point, and the base itself on each axis."
    base = in_fresh_process(point, "batch", config, config, device, **kw)
    rows = [base._replace(setting=axis, name=str(getattr(config, axis)), ratio=1.) for axis in AXES]
    for axis, c in tqdm(points(config), desc="curves", unit="point", leave=False): rows.append(in_fresh_process(point, axis, c, config, device, **kw))
    return sorted(rows, key=lambda r: (list(AXES).index(r.setting), int(r.name)))

def draw_curves(rows):               # from `bench_curves`
    "Two rows of panels, one column an axis: time and memory."
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(2, len(AXES), figsize=(9.6, 4.4), layout="constrained", sharex="col", sharey="row")
    for column, axis in zip(axes.T, AXES):
        x, ratio, held = zip(*((int(r.name), r.ratio, (r.memory or float("nan")) / 1e3) for r in rows if r.setting == axis))
        base = x[ratio.index(1.)]
        column[0].plot(x, [v / base for v in x], ":", color="0.6")
        column[0].plot(x, ratio, "o-"); column[1].plot(x, held, "o-", color="tab:orange")
        column[0].set(xscale="log", yscale="log", ylim=(min(0.2, *ratio) / 1.2, 1.3 * max(r.ratio for r in rows))); column[0].minorticks_off()
        column[1].set_xlabel(axis); column[1].set_xticks(x, x, rotation=90); column[1].minorticks_off()
    axes[0, 0].set_ylabel("time of a step,\nx the base"); axes[1, 0].set(ylabel="peak memory, GB", ylim=(0, 1.1e-3 * max(r.memory or 0 for r in rows) or None))
    return fig

def _share(config, threads, n):              # ..., of each process; steps that count
    "(median seconds of a step, MB held at the peak) of this process in its group."
    torch.set_num_threads(threads)
    pairs, steps, model, optimizer = set_up(config, torch.device("cpu"))
    mine = Pairs(pairs.tiles, pairs.preprocess, pairs.config, rank=rank(), size=size())
    step = mine, steps, Engine(model), optimizer
    for _ in range(2): train_step(*step)
    return median(stopwatch(lambda: train_step(*step)) for _ in range(n)), (memory("cpu") or (0, 0))[1]

def _groups(config, counts, threads, repeats):
    "{how many: [(slowest of the group, MB of all), one a round]}"
    rounds = [[in_processes(k, _share, config, max(1, threads // k), 5) for k in counts] for _ in range(repeats)]
    return {str(k): [(max(s for s, _ in group), sum(m for _, m in group)) for group in groups] for k, groups in zip(counts, zip(*rounds))}

def bench_processes(config, device, repeats=5, seconds=None):
    "The step in 1, 2, ... processes that share the threads of this CPU. On a GPU: nothing, there `torchrun` is asked."
    if device.type != "cpu": return []
    threads = torch.get_num_threads()
    found = in_fresh_process(_groups, config, [k for k in (1, 2, 4, 8) if k <= max(2, threads)], threads, repeats)     # nothing was computed there before it forks
    return rows_of("processes", f"{config.arch}, {config.view} px, batch {config.batch}, {threads} threads", {k: [s for s, _ in v] for k, v in found.items()}, config.batch, "pairs/s",
                   "1", "x the speed of one", device, {k: v[-1][1] for k, v in found.items()})
