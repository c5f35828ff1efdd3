"""Where the time of a training step goes, and how near it comes to its ceiling."""

import importlib.util
import itertools
import os
import time
from contextlib import nullcontext
from dataclasses import replace
from statistics import median

import torch
from rivals import LightlyMoco, lightly_views
from stopwatch import Clock, contest, memory_of, race, rows_of
from torch.utils.flop_counter import FlopCounterMode

import di3cl.model
import di3cl.pretrain
from di3cl.encoder import Queue, pool
from di3cl.pretrain import Pairs, fit_preprocess, new_model, trained
from di3cl.tiles import SimTiles
from di3cl.train.devices import compile_networks, describe, pick_amp

PARTS = (
    "read", "copy", "views", "boxes", "momentum", "query forward", "key forward",
    "heads, losses", "queue", "backward", "optimiser", "other",
)


def set_up(
    config,      # Config
    device,      # torch device
    tiles=None,  # a source of tiles, in place of simulated ones in memory
):
    "Return (pairs, step numbers, model, optimizer) from a random start; rate 0."
    config = replace(config, start="random", n_sim=2 * config.batch)
    tiles = tiles or SimTiles(config.n_sim, config.tile, device=device)
    preprocess = fit_preprocess(tiles, config)
    model = new_model(config, len(preprocess.channels)).to(device).train()
    optimizer = torch.optim.SGD(
        trained(model), 0., config.sgd_momentum, weight_decay=config.weight_decay)
    pairs = Pairs(tiles, preprocess, config, device=device)
    return pairs, itertools.count(), model, optimizer


def autocast(device):
    "Enter the precision that training picks for the device."
    device = torch.device(device)
    dtype = pick_amp("auto", device)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def no_clock(part):
    return nullcontext()


def train_step(
    pairs,          # Pairs
    steps,          # an iterator of step numbers
    model,          # DI3CL
    optimizer,      # of its parameters
    part=no_clock,  # a Clock, or none
):
    "Do one step of the training loop, in named parts."
    with part("other"):
        arguments = pairs[next(steps)]
        with part("heads, losses"), autocast(pairs.device):
            total = model(*arguments).total
        with part("backward"):
            optimizer.zero_grad()
            total.backward()
        with part("optimiser"):
            optimizer.step()


def _places(pairs, model):
    "Say which functions of the real step belong to which part."
    return (
        (pairs, "_read", "read"),
        (pairs, "_draw", "copy"),
        (di3cl.pretrain, "make_views", "views"),
        (di3cl.pretrain, "sample_boxes", "boxes"),
        (di3cl.model, "update_twin", "momentum"),
        (model.encoder, "forward", "query forward"),
        (model.twin.encoder, "forward", "key forward"),
        (Queue, "push", "queue"),
    )


def split_step(pairs, steps, model, optimizer, repeats=5):
    "Time the parts of the step of median length among `repeats`: {part: seconds}."
    clocks = [Clock(pairs.device) for _ in range(repeats)]
    for clock in clocks:
        with clock.on(*_places(pairs, model)):
            train_step(pairs, steps, model, optimizer, clock)
    clocks.sort(key=lambda c: sum(c.spent.values()))
    return {part: clocks[repeats // 2].spent[part] for part in PARTS}


def _outputs(branch, view, regions, loss_weights):
    "Compute what the networks of one branch do, of the parts that have a weight."
    stages = branch.encoder(view)
    heads = (
        (branch.image, pool(stages[3])),
        (branch.contour, pool(stages[2])),
        (branch.region, regions),
    )
    return [h(x) if weight else None for (h, x), weight in zip(heads, loss_weights)]


def ceiling(pairs, steps, model, optimizer):
    "Return a function that runs the bare networks on ready tensors."
    view1, view2, _, _, valid, *_ = pairs[0]
    view1, view2 = (v.to(memory_format=torch.channels_last) for v in (view1, view2))
    n = max(2, int(valid.sum()))
    regions = torch.randn(n, model.encoder.widths[3], device=view1.device)
    weights = model.loss_weights

    def run():
        with autocast(view1.device):
            *answers, region = _outputs(model.online, view1, regions, weights)
            with torch.no_grad():
                _outputs(model.twin, view2, regions, weights)
            if region is not None:
                answers.append(model.predictor(region))
        optimizer.zero_grad()
        sum(x.float().square().mean() for x in answers if x is not None).backward()
        optimizer.step()
    return run


# operations a second in 16 bits, dense, by NVIDIA's data sheets
PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "A100": 312e12, "Tesla T4": 65e12}


def step_flops(step):
    "Count the operations of the networks in one step; a multiply-add is two."
    run = ceiling(*step)
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def share_of_peak(step, row, device):
    "Make a row of the step's arithmetic against a known GPU's peak; else none."
    for name, peak in PEAKS.items():
        if name in describe(device):
            rate = step_flops(step) / row.seconds
            return [row._replace(
                name="arithmetic", rate=rate / 1e12, unit="TFLOP/s",
                ratio=rate / peak, of="of this GPU's peak")]
    return []


def _few(config):
    return min(config.batch, 16)


def _lightly(pairs, device):
    "Return runners: lightly's step on ready views, and its views."
    if not importlib.util.find_spec("lightly"):
        return {}
    view1, view2, *_ = pairs[0]
    view1, view2 = (v.to(memory_format=torch.channels_last) for v in (view1, view2))
    channels = view1.shape[1]
    moco = LightlyMoco(pairs.config, channels, device, pick_amp("auto", device))
    views = lightly_views(pairs.config, 3 if channels == 3 else 1, _few(pairs.config))
    return {"lightly, views ready": lambda: moco(view1, view2),
            "lightly's views": views}


def with_views(times, config, device, cores):
    "Put lightly's step and its views together, as if spread over all cores."
    views = times.pop("lightly's views", None)
    if views:
        both = []
        for step, view in zip(times["lightly, views ready"], views):
            view = view * config.batch / _few(config) / cores
            both.append(max(step, view) if device.type == "cuda" else step + view)
        times["lightly, its own views"] = both
    return times


def bench_step(config, device, repeats=5, **kw):
    "Time the step, its ceiling, the step without DI and CC, lightly's MoCo, the parts."
    step = set_up(config, device)
    moco = set_up(replace(config, loss_weights=(1, 0, 0)), device)
    runners = {
        "step": lambda: train_step(*step),
        "ceiling": ceiling(*step),
        "step of (1, 0, 0)": lambda: train_step(*moco),
        **_lightly(step[0], device),
    }
    needs = {name: memory_of(run, device) for name, run in runners.items()}
    cores = torch.get_num_threads() if device.type == "cpu" else os.cpu_count()
    times = race(runners, device, repeats, **kw)
    times = with_views(times, config, device, cores)
    spent = split_step(*step, len(times["step"]))
    total = sum(spent.values())
    setting = f"{config.arch}, {config.view} px, batch {config.batch}"

    def rows(times, base, of):
        return rows_of("step", setting, times, config.batch, "pairs/s", base, of,
                       device, needs)

    speed = "x the speed of the step"
    first, *others = rows(times, "step", speed)
    clocked, = rows({"clocked": [total]}, "clocked", speed)
    clocked = clocked._replace(ratio=median(times["step"]) / total)
    share = {part: [s] for part, s in spent.items() if s}
    parts = [row._replace(ratio=row.seconds / total)
             for row in rows(share, "backward", "of the clocked step")]
    peak = share_of_peak(step, first, device)
    return [first, *others, *peak, clocked, *parts]


def bench_compile(config, device, **kw):
    "Time the step with both encoders compiled, beside it as it is, and the compiling."
    eager, compiled = set_up(config, device), set_up(config, device)
    compile_networks(compiled[2].online.encoder, compiled[2].twin.encoder)
    began = time.perf_counter()
    train_step(*compiled)
    took = time.perf_counter() - began
    what = "compile", f"{config.arch}, {config.view} px, batch {config.batch}"
    runners = {
        "step": lambda: train_step(*eager),
        "step, compiled": lambda: train_step(*compiled),
    }
    rows = contest(*what, runners, config.batch, "pairs/s", "x the speed of the step",
                   device, **kw)
    name = "first step, compiling"
    first, = rows_of(*what, {name: [took]}, config.batch, "pairs/s", name,
                     "x the time of the step", device)
    return [*rows, first._replace(ratio=took / rows[0].seconds)]
