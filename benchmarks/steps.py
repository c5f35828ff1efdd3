"""Where the time of a training step goes, and how close the step comes to what the machine can do."""

import importlib.util, itertools, os, time
from contextlib import nullcontext
from dataclasses import replace
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

import di3cl.model, di3cl.train.config
from di3cl.train.devices import compile_networks, describe, pick_amp
from di3cl.encoder import Queue, pool
from di3cl.pretrain import Pairs, fit_preprocess
from di3cl.pretrain import new_model, trained
from rivals import LightlyMoco, lightly_views
from stopwatch import Clock, contest, memory_of, race, rows_of
from di3cl.tiles import SimTiles

def set_up(config, device, tiles=None):   # ...; a source of tiles, in place of simulated ones in memory
    "(pairs, steps, model, optimizer) from a random start."
    config = replace(config, start="random", n_sim=2 * config.batch)
    tiles = tiles or SimTiles(config.n_sim, config.tile, device=device)
    preprocess = fit_preprocess(tiles, config)
    model = new_model(config, len(preprocess.channels)).to(device).train()
    optimizer = torch.optim.SGD(trained(model), 0., config.sgd_momentum, weight_decay=config.weight_decay)
    return Pairs(tiles, preprocess, config, device=device), itertools.count(), model, optimizer

def autocast(device):
    dtype = pick_amp("auto", torch.device(device))
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None)

def train_step(pairs, steps, model, optimizer, part=lambda name: nullcontext()):   # Pairs; an iterator of step numbers; ...; a Clock, or none
    "One step of the training loop, in named parts."
    with part("other"):
        arguments = pairs[next(steps)]
        with part("heads, losses"), autocast(pairs.device): total = model(*arguments).total
        with part("backward"): optimizer.zero_grad(); total.backward()
        with part("optimiser"): optimizer.step()

PARTS = ("read", "copy", "views", "boxes", "momentum", "query forward", "key forward", "heads, losses", "queue", "backward", "optimiser", "other")

def _places(pairs, model):
    "Which functions of the real step belong to which part."
    return ((pairs, "_read", "read"), (pairs, "_views", "copy"), (di3cl.train.config, "make_views", "views"), (di3cl.train.config, "sample_boxes", "boxes"),
            (di3cl.model, "update_twin", "momentum"), (model.encoder, "forward", "query forward"), (model.twin.encoder, "forward", "key forward"), (Queue, "push", "queue"))

def split_step(pairs, steps, model, optimizer, repeats=5):
    "The parts of the step of median length among `repeats`: {part: seconds}."
    clocks = [Clock(pairs.device) for _ in range(repeats)]
    for clock in clocks:
        with clock.on(*_places(pairs, model)): train_step(pairs, steps, model, optimizer, clock)
    spent = sorted(clocks, key=lambda c: sum(c.spent.values()))[repeats // 2].spent
    return {part: spent[part] for part in PARTS}

def _outputs(branch, view, regions, loss_weights):
    "What the networks of one branch compute, of the parts that have a weight."
    stages = branch.encoder(view)
    heads = (branch.image, pool(stages[3])), (branch.contour, pool(stages[2])), (branch.region, regions)
    return [head(x) if weight else None for (head, x), weight in zip(heads, loss_weights)]

def ceiling(pairs, steps, model, optimizer):
    "A function that runs the bare networks on ready tensors, once a call."
    view1, view2, _, _, valid, *_ = pairs[0]
    view1, view2 = (v.to(memory_format=torch.channels_last) for v in (view1, view2))
    regions = torch.randn(max(2, int(valid.sum())), model.encoder.widths[3], device=view1.device)
    def run():
        with autocast(view1.device):
            image, contour, region = _outputs(model.online, view1, regions, model.loss_weights)
            with torch.no_grad(): _outputs(model.twin, view2, regions, model.loss_weights)
            answers = [x for x in (image, contour, None if region is None else model.predictor(region)) if x is not None]
        optimizer.zero_grad()
        sum(x.float().square().mean() for x in answers).backward()
        optimizer.step()
    return run

PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "A100": 312e12, "Tesla T4": 65e12}   # operations/s in 16 bits, dense, by NVIDIA's data sheets

def step_flops(step):                        # from `set_up`
    "Operations of the networks in one step; a multiplication and an addition are two."
    run = ceiling(*step)
    with FlopCounterMode(display=False) as counter: run()
    return counter.get_total_flops()

def _share_of_peak(step, row, device):       # ...; the step's row
    peak = next((p for name, p in PEAKS.items() if name in describe(device)), None)
    return [] if peak is None else [row._replace(name="arithmetic", rate=(done := step_flops(step) / row.seconds) / 1e12, unit="TFLOP/s", ratio=done / peak, of="of this GPU's peak")]

def _lightly(pairs, device):
    "Runners: lightly's step on ready views, and its views."
    if not importlib.util.find_spec("lightly"): return {}
    view1, view2, *_ = pairs[0]
    view1, view2 = (v.to(memory_format=torch.channels_last) for v in (view1, view2))
    moco = LightlyMoco(pairs.config, view1.shape[1], device, pick_amp("auto", device))
    return {"lightly, views ready": lambda: moco(view1, view2), "lightly's views": lightly_views(pairs.config, 3 if view1.shape[1] == 3 else 1, _few(pairs.config))}

def _few(config): return min(config.batch, 16)

def _and_views(times, config, device, cores):
    "Put lightly's step and its views together."
    if views := times.pop("lightly's views", None):
        both = max if device.type == "cuda" else lambda *t: sum(t)
        times["lightly, its own views"] = [both(step, v * config.batch / _few(config) / cores) for step, v in zip(times["lightly, views ready"], views)]
    return times

def bench_step(config, device, repeats=5, **kw):
    "The whole step, its ceiling, the step without DI and CC, lightly's MoCo, and the parts."
    step, moco = set_up(config, device), set_up(replace(config, loss_weights=(1, 0, 0)), device)
    runners = {"step": lambda: train_step(*step), "ceiling": ceiling(*step), "step of (1, 0, 0)": lambda: train_step(*moco), **_lightly(step[0], device)}
    needs = {name: memory_of(run, device) for name, run in runners.items()}
    times = _and_views(race(runners, device, repeats, **kw), config, device, torch.get_num_threads() if device.type == "cpu" else os.cpu_count())
    rows = lambda times, base, of: rows_of("step", f"{config.arch}, {config.view} px, batch {config.batch}", times, config.batch, "pairs/s", base, of, device, needs)
    spent = split_step(*step, len(times["step"]))
    total = sum(spent.values())
    parts = [row._replace(ratio=row.seconds / total, of="of the clocked step") for row in rows({part: [s] for part, s in spent.items() if s}, "backward", "")]
    (clocked,) = rows({"clocked": [total]}, "clocked", "x the speed of the step")
    first, *others = rows(times, "step", "x the speed of the step")
    return [first, *others, *_share_of_peak(step, first, device), clocked._replace(ratio=median(times["step"]) / total), *parts]

def bench_compile(config, device, **kw):
    "The step with both encoders compiled, beside the step as it is, and how long compiling took."
    eager, compiled = set_up(config, device), set_up(config, device)
    compile_networks(compiled[2].online.encoder, compiled[2].twin.encoder)
    began = time.perf_counter(); train_step(*compiled); took = time.perf_counter() - began
    what = "compile", f"{config.arch}, {config.view} px, batch {config.batch}"
    rows = contest(*what, {"step": lambda: train_step(*eager), "step, compiled": lambda: train_step(*compiled)}, config.batch, "pairs/s", "x the speed of the step", device, **kw)
    (first,) = rows_of(*what, {"first step, compiling": [took]}, config.batch, "pairs/s", "first step, compiling", "x the time of the step", device)
    return [*rows, first._replace(ratio=took / rows[0].seconds)]
