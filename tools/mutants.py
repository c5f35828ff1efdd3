"""Does the suite notice? Break the library on purpose, one line at a time, and run its tests on each broken copy.

    python tools/mutants.py [name ...]      # all, or those named; exits 1 when a break goes unnoticed; about a minute each

The result, which tests failed for which break, goes to benchmarks/results/mutants.json.
"""
import json, os, platform, re, shutil, subprocess, sys, tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BREAKS = {   # name: (module, what stands there, what a mistaken hand would have put, the tests of the rooms that lean on it)
    "wrong flip in to_view": ("views", "torch.where(flip > 0.5, size - x1, x0), y0, torch.where(flip > 0.5, size - x0, x1)",
                              "torch.where(flip > 0.5, size - x0, x0), y0, torch.where(flip > 0.5, size - x1, x1)", "views instances contours di3cl"),
    "the flip forgotten in to_view": ("views", "torch.where(flip > 0.5, size - x1, x0), y0, torch.where(flip > 0.5, size - x0, x1)", "x0, y0, x1", "views instances contours di3cl"),
    "twin never updated": ("encoder", "torch._foreach_lerp_(list(twin.parameters()), list(online.parameters()), 1 - momentum)", "pass", "encoder di3cl"),
    "twin updated twice a step": ("model", "with torch.no_grad(): key = self.twin.encoder(view2)\n",
                                       "with torch.no_grad(): key = self.twin.encoder(view2)\n    if self.training: update_twin(self.online, self.twin, self.momentum)\n", "di3cl"),
    "queue filled before use": ("model", "    loss = info_nce(q, k, self.queues[head].keys, self.temperature)\n    if self.training: self.queues[head].push(k)\n",
                                "    if self.training: self.queues[head].push(k)\n    loss = info_nce(q, k, self.queues[head].keys, self.temperature)\n", "di3cl"),
    "InfoNCE without normalisation": ("losses", "q = unit_vectors(query)", "q = query", "losses di3cl"),
    "InfoNCE with keys as they come": ("losses", "(unit_vectors(x).to(q.dtype) for x in (key, queue))", "(x.to(q.dtype) for x in (key, queue))", "losses di3cl"),
    "region loss on invalid boxes": ("losses", "(distance * valid).sum() / valid.sum().clamp_min(1)", "distance.mean()", "losses di3cl"),
    "regions of invalid boxes pooled": ("model", "index = valid.nonzero()", "index = torch.ones_like(valid).nonzero()", "di3cl"),
    "speckle in dB": ("views", "else x * _gamma_noise(x, L, generator)", "else 10 ** (x.log10() * _gamma_noise(x, L, generator))", "views pairs"),
    "speckle of the wrong mean": ("sar", "return intensity * noise", "return intensity * 1.1 * noise", "sar scenes views"),
}

def copy(folder):
    "The library and its tests in `folder`."
    for name in ("di3cl", "tests"): shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"): shutil.copy(ROOT / name, folder)

def break_it(path, old, new):
    text = path.read_text()
    if text.count(old) != 1: sys.exit(f"{path.name} has {text.count(old)} places like {old!r}, not 1: this script must follow the library")
    path.write_text(text.replace(old, new))

def failures(folder, rooms):
    "Names of the tests that fail in the copy."
    tests = [f"tests/test_{room}.py" for room in rooms.split()]
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"})
    if ran.returncode not in (0, 1): sys.exit(ran.stdout + ran.stderr)
    return re.findall(r"^(?:FAILED|ERROR) tests/test_(\S+)", ran.stdout, re.M)

def main(names):
    found, rooms = {}, " ".join(sorted({room for name in names or BREAKS for room in BREAKS[name][3].split()}))
    with tempfile.TemporaryDirectory() as whole:                     # all breaks are made to one state of the library, whatever is edited meanwhile
        copy(Path(whole))
        if already := failures(Path(whole), rooms): sys.exit(f"these fail without any break, so nothing can be concluded: {', '.join(already)}")
        for name in names or BREAKS:
            module, old, new, rooms = BREAKS[name]
            path = Path(whole) / "di3cl" / f"{module}.py"
            sound = path.read_text()
            break_it(path, old, new)
            found[name] = failures(Path(whole), rooms)
            path.write_text(sound)
            print(f"{'caught' if found[name] else 'MISSED':7} {name:35} {len(found[name]):3} tests fail: {', '.join(found[name][:3])}", flush=True)
    record = dict(command="python tools/mutants.py", python=platform.python_version(), torch=version("torch"), caught=found)
    if not names: (ROOT / "benchmarks/results/mutants.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0 if all(found.values()) else 1

if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
