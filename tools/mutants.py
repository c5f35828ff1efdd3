"""Does the suite notice? Break the library, one line at a time, and run its tests.

    python tools/mutants.py [name ...]   # all, or those named; about a minute each

It exits with 1 when a break goes unnoticed. Which tests failed for which break goes to
benchmarks/results/mutants.json.
"""
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Break(NamedTuple):
    "A mistake that somebody could make."
    module: str  # of di3cl, as a path without its suffix
    old: str     # what stands there, once
    new: str     # what a mistaken hand would have put
    tests: str   # the test files, without test_ and .py, that lean on it


BOXES = "course_views course_instances course_contours course_di3cl"
LOSSES = "course_contrast course_di3cl"
BREAKS = {
    "wrong flip in to_view": Break(
        "views",
        "torch.where(flip, size - x0, x1)",
        "torch.where(flip, size - x1, x1)",
        BOXES),
    "the flip forgotten in to_view": Break(
        "views",
        "x0, x1 = torch.where(flip, size - x1, x0), torch.where(flip, size - x0, x1)",
        "pass",
        BOXES),
    "twin never updated": Break(
        "encoder",
        "torch._foreach_lerp_(followers, leaders, 1 - momentum)",
        "pass",
        "course_encoder course_di3cl"),
    "twin updated twice a step": Break(
        "model",
        "        update_twin(self.online, self.twin, self.momentum)\n",
        "        update_twin(self.online, self.twin, self.momentum)\n"
        "        update_twin(self.online, self.twin, self.momentum)\n",
        "course_di3cl"),
    "queue filled before use": Break(
        "model",
        "    negatives = queue.keys.clone()",
        "    if self.training:\n"
        "        queue.push(gather(k))\n"
        "    negatives = queue.keys.clone()",
        "course_di3cl"),
    "InfoNCE without normalisation": Break(
        "losses",
        "map(unit_vectors, (query, key, queue))",
        "(query, unit_vectors(key), unit_vectors(queue))",
        LOSSES),
    "InfoNCE with keys as they come": Break(
        "losses",
        "map(unit_vectors, (query, key, queue))",
        "(unit_vectors(query), key, queue)",
        LOSSES),
    "queries of any length in the model": Break(
        "model",
        "q = unit_vectors(getattr(self.online, head)(query))",
        "q = getattr(self.online, head)(query)",
        "course_di3cl"),
    "keys of any length in the queue": Break(
        "model",
        "k = unit_vectors(getattr(self.twin, head)(key))",
        "k = getattr(self.twin, head)(key)",
        "course_di3cl"),
    "region loss on invalid boxes": Break(
        "losses",
        "(distance * valid).sum() / valid.sum().clamp_min(1)",
        "distance.mean()",
        LOSSES),
    "regions of invalid boxes pooled": Break(
        "model",
        "index = valid.nonzero()",
        "index = torch.ones_like(valid).nonzero()",
        "course_di3cl"),
    "speckle in dB": Break(
        "views",
        "x = x * _gamma_noise(x.shape, L, generator)",
        "x = 10 ** (x.log10() * _gamma_noise(x.shape, L, generator))",
        "course_views"),
    "speckle of the wrong mean": Break(
        "sar",
        "return intensity * noise",
        "return intensity * 1.1 * noise",
        "data_sar course_scenes course_views"),
}


def copy(folder):
    "Copy the library, its tests and what these import to a folder."
    for name in ("di3cl", "tests", "tools", "benchmarks"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("conftest.py", "pyproject.toml", "settings.ini"):
        shutil.copy(ROOT / name, folder)


def put(path, old, new):
    "Write `new` in the one place where `old` stands."
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"{path.name} has {text.count(old)} places like {old!r}, not 1: "
                 "this script must follow the library")
    path.write_text(text.replace(old, new))


def failures(folder, tests):
    "Return the names of the tests that fail in the copy."
    files = [f"tests/test_{name}.py" for name in sorted(tests)]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    env = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=env)
    if ran.returncode not in (0, 1):
        sys.exit(ran.stdout + ran.stderr)
    return re.findall(r"^(?:FAILED|ERROR) tests/test_(\S+)", ran.stdout, re.M)


def main(names):
    chosen = {name: BREAKS[name] for name in names or BREAKS}
    found = {}
    with tempfile.TemporaryDirectory() as whole:  # one state, whatever is edited since
        folder = Path(whole)
        copy(folder)
        every = {test for b in chosen.values() for test in b.tests.split()}
        if already := failures(folder, every):
            sys.exit("these fail without any break, so nothing can be concluded: "
                     + ", ".join(already))
        for name, b in chosen.items():
            path = folder / "di3cl" / f"{b.module}.py"
            sound = path.read_text()
            put(path, b.old, b.new)
            found[name] = failures(folder, b.tests.split())
            path.write_text(sound)
            word = "caught" if found[name] else "MISSED"
            print(f"{word} {name:35} {len(found[name]):3} tests fail: "
                  + ", ".join(found[name][:3]), flush=True)
    if not names:
        record = dict(
            command="python tools/mutants.py", python=platform.python_version(),
            torch=version("torch"), caught=found)
        out = ROOT / "benchmarks/results/mutants.json"
        out.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
