"""Time honestly: warm-up, medians, turns, threads, parts that add up to the whole."""

import ctypes
import json
import os
import platform
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest import mock

import torch
import torchvision
from tqdm.auto import tqdm

import di3cl
from di3cl.files import write_atomic


def synchronise(device):
    "Wait until the device has done what was asked of it."
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    if kind == "mps":
        torch.mps.synchronize()


def stopwatch(
    run,           # function without arguments
    device="cpu",  # the one to wait for
    n=1,           # how often it is called
):
    "Return the seconds of a call."
    synchronise(device)
    start = time.perf_counter()
    for _ in range(n):
        run()
    synchronise(device)
    return (time.perf_counter() - start) / n


def race(
    runners,       # {name: function without arguments}
    device="cpu",  # the one to wait for
    repeats=5,     # rounds; more on a machine that others use
    seconds=60,    # no further round begins after that long
    block=0.2,     # a reading lasts that long at least, seconds
):
    "Let all run in turns, after two calls that do not count: {name: seconds a call}."
    calls = {}
    for run in runners.values():
        run()
    for name, run in runners.items():
        calls[name] = max(1, round(block / max(stopwatch(run, device), 1e-9)))
    times, began = {name: [] for name in runners}, time.perf_counter()
    title = " / ".join(runners)[:40]
    for _ in tqdm(range(repeats), desc=title, leave=False, disable=None):
        for name, run in runners.items():
            times[name].append(stopwatch(run, device, calls[name]))
        if time.perf_counter() - began > seconds:
            break
    return times


@contextmanager
def threads(n):
    "Set PyTorch's number of CPU threads for a while."
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Row(NamedTuple):
    "One line of a result."
    what: str        # the measurement, of speed.MEASURES
    name: str        # who ran
    setting: str     # sizes, batch
    seconds: float   # median over the rounds
    rate: float      # things a second
    unit: str        # which things
    ratio: float     # median over the rounds, within each round
    of: str          # what the ratio says
    memory: float    # MB at the peak beyond what was held before; None: unknown
    device: str


def memory(device, reset=False):
    "Return MB held and at the peak, of the device or of this process; None: unknown."
    if torch.device(device).type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        return held / 1e6, torch.cuda.max_memory_allocated(device) / 1e6
    try:
        if reset:  # give back what was freed, and begin a new peak
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except (OSError, AttributeError):  # not Linux, or not allowed
        return None
    size = dict(line.split(":") for line in lines)
    return tuple(int(size[key].split()[0]) / 1e3 for key in ("VmRSS", "VmHWM"))


def memory_of(run, device):
    "Return the MB that a call needs beyond what is held before; None: unknown."
    before = memory(device, reset=True)
    run()
    return before and max(0., memory(device)[1] - before[0])


def rows_of(
    what,        # as in Row
    setting,     # as in Row
    times,       # from `race`
    number,      # a call handled so many
    unit,        # of these
    base,        # ratios are speeds over that of this runner
    of,          # the ratio in words
    device,      # where
    needs=None,  # {name: MB}, from `memory_of`
):
    "Make a row for each runner of a race."
    rows = []
    for name, t in times.items():
        ratio = median(b / s for b, s in zip(times[base], t))
        need = (needs or {}).get(name)
        rows.append(Row(what, name, setting, median(t), number / median(t), unit,
                        ratio, of, need, str(device)))
    return rows


def contest(what, setting, runners, number, unit, of, device, **kw):
    "Race, and make a row for each runner, as `rows_of`; the first is the base."
    needs = {name: memory_of(run, device) for name, run in runners.items()}
    times = race(runners, device, **kw)
    base = next(iter(runners))
    return rows_of(what, setting, times, number, unit, base, of, device, needs)


class Clock:
    "Self times by part: `with clock(name):` for code, `with clock.on(...)` for calls."

    def __init__(self, device="cpu"):
        self.device, self.spent, self.inner = device, Counter(), 0.

    @contextmanager
    def __call__(self, part):
        "Add what passes, less what passes within inner parts."
        synchronise(self.device)
        start, outer, self.inner = time.perf_counter(), self.inner, 0.
        yield
        synchronise(self.device)
        took = time.perf_counter() - start
        self.spent[part] += took - self.inner
        self.inner = outer + took

    @contextmanager
    def on(self, *places):
        "Time functions of others for a while: (owner, name of its function, part), ..."
        with ExitStack() as stack:
            for owner, name, part in places:
                timed = self._timed(getattr(owner, name), part)
                stack.enter_context(mock.patch.object(owner, name, timed))
            yield

    def _timed(self, f, part):
        def wrapped(*args, **kw):
            with self(part):
                return f(*args, **kw)
        return wrapped


def machine():
    "Say what the numbers depend on, beside the code."
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpus = [line.split(":")[1].strip() for line in lines if "model name" in line]
    count = torch.cuda.device_count()
    return dict(
        cpu=cpus[0] if cpus else platform.processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpus=[torch.cuda.get_device_name(k) for k in range(count)],
        system=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        cuda=torch.version.cuda,
        di3cl=di3cl.__version__,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def write_json(path, content):
    "Write a file of results whole, and the folder where it is not there."
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())
