"""How to time honestly: warm-up, medians, turns, threads, and parts that add up to the whole."""

import ctypes, os, platform, time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest import mock

import torch, torchvision
from fastcore.basics import patch
from tqdm.auto import tqdm

import di3cl

def synchronise(device):
    "Wait until the device has done what was asked of it."
    kind = torch.device(device).type
    if kind == "cuda": torch.cuda.synchronize(device)
    if kind == "mps": torch.mps.synchronize()

def stopwatch(run, device="cpu", n=1):   # a function without arguments; how often it is called
    "Seconds a call."
    synchronise(device); start = time.perf_counter()
    for _ in range(n): run()
    synchronise(device)
    return (time.perf_counter() - start) / n

def race(runners,       # {name: function without arguments}
         device="cpu",  # the one to wait for
         repeats=5,     # rounds; more on a machine that others use
         seconds=60,    # no further round begins after that long
         block=0.2):    # a reading lasts that long at least, seconds
    "Let all run in turns, after two calls each that do not count: {name: seconds a call, one number a round}."
    for run in runners.values(): run()
    calls = {name: max(1, round(block / max(stopwatch(run, device), 1e-9))) for name, run in runners.items()}
    times, began = {name: [] for name in runners}, time.perf_counter()
    for _ in tqdm(range(repeats), desc=" / ".join(runners)[:40], leave=False, disable=None):
        for name, run in runners.items(): times[name].append(stopwatch(run, device, calls[name]))
        if time.perf_counter() - began > seconds: break
    return times

@contextmanager
def threads(n):
    "PyTorch's number of CPU threads, for a while."
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try: yield
    finally: torch.set_num_threads(before)

class Row(NamedTuple):
    what: str        # "sim" | "tiles" | "views" | "boxes" | "step" | "compile" | "processes" | "curves" | "predict" | "store" | "explore"
    name: str        # who ran
    setting: str     # sizes, batch
    seconds: float   # median over the rounds
    rate: float      # things a second
    unit: str        # which things
    ratio: float     # median over the rounds, within each round
    of: str          # what the ratio says
    memory: float    # MB that a call needs at its peak, beyond what was held before; in curves: all that is held; None: unknown
    device: str

def memory(device, reset=False):              # ...; begin a new peak?
    "(held, peak) in MB, of the device or of this process; None where it cannot be asked."
    if torch.device(device).type == "cuda":
        if reset: torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 1e6, torch.cuda.max_memory_allocated(device) / 1e6
    try:
        if reset: ctypes.CDLL(None).malloc_trim(0); Path("/proc/self/clear_refs").write_text("5")
        size = dict(l.split(":") for l in Path("/proc/self/status").read_text().splitlines())
    except (OSError, AttributeError): return None                # not Linux, or not allowed
    return tuple(int(size[k].split()[0]) / 1e3 for k in ("VmRSS", "VmHWM"))

def memory_of(run, device):                   # a function without arguments
    "MB that a call needs at its peak, beyond what is held before; None where it cannot be asked."
    before = memory(device, reset=True)
    run()
    return before and max(0., memory(device)[1] - before[0])

def rows_of(what, setting,  # as in Row
            times,          # from `race`
            number, unit,   # a call handled so many of these
            base, of,       # ratios are speeds over that of the runner `base`; in words
            device,
            needs={}):      # MB of each runner, from `memory_of`
    "A row for each runner of a race."
    ratio = lambda t: median(b / s for b, s in zip(times[base], t))
    return [Row(what, name, setting, median(t), number / median(t), unit, ratio(t), of, needs.get(name), str(device)) for name, t in times.items()]

def contest(what, setting, runners, number, unit, of, device, **kw):   # as in `rows_of`; kw as in `race`
    "A row for each runner; the first is the base."
    needs = {name: memory_of(run, device) for name, run in runners.items()}
    return rows_of(what, setting, race(runners, device, **kw), number, unit, next(iter(runners)), of, device, needs)

class Clock:
    "Self time by part: `with clock(\"name\"): ...` around code, `with clock.on(...)` around functions of others."
    def __init__(self, device="cpu"): self.device, self.spent, self.inner = device, Counter(), 0.
    @contextmanager
    def __call__(self, part):
        synchronise(self.device); start, outer, self.inner = time.perf_counter(), self.inner, 0.
        yield
        synchronise(self.device); took = time.perf_counter() - start
        self.spent[part] += took - self.inner
        self.inner = outer + took

@patch
@contextmanager
def on(self: Clock, *places):            # (owner, name of its function, part)
    "Time these functions while the context lasts."
    with ExitStack() as stack:
        for owner, name, part in places: stack.enter_context(mock.patch.object(owner, name, _timed(self, getattr(owner, name), part)))
        yield

def _timed(clock, f, part):
    def wrapped(*args, **kw):
        with clock(part): return f(*args, **kw)
    return wrapped

def machine():
    "What the numbers depend on, beside the code."
    info = Path("/proc/cpuinfo")
    names = [l.split(":")[1].strip() for l in info.read_text().splitlines() if l.startswith("model name")] if info.exists() else []
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return dict(cpu=names[0] if names else platform.processor(), cores=os.cpu_count(), threads=torch.get_num_threads(), gpus=gpus, system=platform.platform(), python=platform.python_version(),
                torch=torch.__version__, torchvision=torchvision.__version__, cuda=torch.version.cuda, di3cl=di3cl.__version__, time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
