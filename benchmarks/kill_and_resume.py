"""Kill a real run twenty times at random moments, from its first second on, and compare
what comes out with a run left in peace.

    python benchmarks/kill_and_resume.py
        # -> benchmarks/results/kill_and_resume.json; about six minutes on one quiet
        # core
"""

import argparse
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from stopwatch import write_json

from di3cl.train.run import checkpoints, read_checkpoint, read_metrics

RUN = """
from di3cl.pretrain import pretrain
pretrain("sim", {out!r}, "tiny", device="cpu", resume={resume}, checkpoint_seconds=0,
         pairs={pairs}, n_sim=256)
"""


def start(out, pairs, resume):
    "Start or go on with a run in a process of its own."
    code = RUN.format(out=str(out), resume=resume, pairs=pairs)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    "Wait for a run that is not killed."
    errors = process.communicate()[1]
    if process.returncode:
        sys.exit(f"a run that was not killed failed:\n{errors[-2000:]}")


def newest(out):
    "The newest checkpoint's path, in a list; an empty list before the first."
    return checkpoints(out / "checkpoints")[-1:]


def state(out):
    "Where a run that was killed stands; each of its checkpoints must be readable."
    folder = out / "checkpoints"
    steps = [read_checkpoint(path)[1] for path in checkpoints(folder)]
    return dict(
        config=(out / "config.json").exists(),
        step=max(steps, default=0),
        writing=any(folder.glob(".step_*.tmp")),
    )


def seconds_to_begin(out, pairs):
    "From the start of a new run to its first checkpoint; it is killed then."
    begin = time.monotonic()
    process = start(out, pairs, False)
    while not newest(out):
        time.sleep(0.05)
    process.kill()
    process.wait()
    return time.monotonic() - begin


def one_life(out, pairs, wait, opening):
    "Start or go on, and be killed: while opening, or after a step and a moment more."
    before = newest(out)
    process = start(out, pairs, (out / "config.json").exists())
    while not opening and newest(out) == before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(wait)
    if process.poll() is not None:
        sys.exit(f"it ended by itself:\n{process.communicate()[1][-2000:]}")
    process.send_signal(signal.SIGKILL)
    process.wait()
    return dict(early=opening, **state(out))


def log_of(out):
    "The rows of the log without their times."
    lines = (out / "metrics.csv").read_text().splitlines()
    return [line.rsplit(",", 2)[0] for line in lines]


def trial(root, n_kills, pairs):
    "What came of it, as the result file has it."
    peace, killed, rng = root / "peace", root / "killed", random.Random(0)
    finish(start(peace, pairs, False))
    opening, kills = seconds_to_begin(killed, pairs), []
    for k in range(n_kills):
        early = k % 4 == 0  # every fourth dies somewhere in its opening
        wait = rng.uniform(0, opening if early else 3)
        kills.append(one_life(killed, pairs, wait, early))
        print(kills[-1], flush=True)
    finish(start(killed, pairs, True))
    a, b = (read_checkpoint(*newest(out))[0] for out in (peace, killed))
    equal = a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())
    return dict(
        command="python benchmarks/kill_and_resume.py",
        kills=kills,
        while_writing=sum(k["writing"] for k in kills),
        steps=len(read_metrics(killed)["step"]),
        tensors=len(a),
        bit_equal=equal,
        same_log=log_of(peace) == log_of(killed),
        machine=platform.platform(),
        torch=torch.__version__,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=64 * 250)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        result = trial(Path(root), args.kills, args.pairs)
    print({k: v for k, v in result.items() if k != "kills"})
    write_json(Path(__file__).parent / "results/kill_and_resume.json", result)
    sys.exit(not (result["bit_equal"] and result["same_log"]))


if __name__ == "__main__":
    main()
