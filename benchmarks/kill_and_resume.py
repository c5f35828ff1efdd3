"""Kill a real run twenty times at random moments, from its first second on, and compare
what comes out with a run left in peace.

    python benchmarks/kill_and_resume.py
        # -> benchmarks/results/kill_and_resume.json; about six minutes on one quiet
        # core
"""

import argparse
import json
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from di3cl.files import write_atomic
from di3cl.train.run import checkpoints, read_checkpoint, read_metrics


def start(out, pairs, resume):
    code = (
        "from di3cl.pretrain import pretrain; "
        f"pretrain('sim', {str(out)!r}, 'tiny', device='cpu', resume={resume}, "
        f"checkpoint_seconds=0, pairs={pairs}, n_sim=256)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True
    )


def finish(process):
    err = process.communicate()[1]
    if process.returncode:
        sys.exit(f"a run that was not killed failed:\n{err[-2000:]}")
    return err


def state(out):
    """Where a run that was killed stands, after checking that each of its checkpoints
    can be read."""
    folder = out / "checkpoints"
    steps = [read_checkpoint(path)[1] for path in checkpoints(folder)]
    return dict(
        config=(out / "config.json").exists(),
        step=max(steps, default=0),
        writing=any(folder.glob(".step_*.tmp")) if folder.exists() else False,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=64 * 250)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        sys.exit(not trial(Path(root), args))


def trial(root, args):
    rng, kills = random.Random(0), []
    finish(start(root / "peace", args.pairs, False))
    begin = time.time()
    first = start(root / "killed", args.pairs, False)
    while not checkpoints(root / "killed/checkpoints"):
        time.sleep(0.05)
    opening = time.time() - begin  # until the first checkpoint
    first.kill()
    first.wait()
    for k in range(args.kills):
        before = checkpoints(root / "killed/checkpoints")[-1:]
        process, early = (
            start(root / "killed", args.pairs, (root / "killed/config.json").exists()),
            k % 4 == 0,
        )
        while (
            not early
            and checkpoints(root / "killed/checkpoints")[-1:] == before
            and process.poll() is None
        ):
            time.sleep(0.01)
        time.sleep(
            rng.uniform(0, opening if early else 3)
        )  # every fourth dies somewhere in its opening
        if process.poll() is not None:
            sys.exit(f"it ended by itself:\n{process.communicate()[1][-2000:]}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills.append(dict(early=early, **state(root / "killed")))
        print(kills[-1], flush=True)
    finish(start(root / "killed", args.pairs, True))
    a, b = (
        read_checkpoint(checkpoints(root / name / "checkpoints")[-1])[0]
        for name in ("peace", "killed")
    )
    same = a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())
    logs = [
        [
            l.rsplit(",", 2)[0]
            for l in (root / name / "metrics.csv").read_text().splitlines()
        ]
        for name in ("peace", "killed")
    ]
    result = dict(
        command="python benchmarks/kill_and_resume.py",
        kills=kills,
        while_writing=sum(k["writing"] for k in kills),
        steps=len(read_metrics(root / "killed")["step"]),
        tensors=len(a),
        bit_equal=same,
        same_log=logs[0] == logs[1],
        machine=platform.platform(),
        torch=torch.__version__,
    )
    print({k: v for k, v in result.items() if k != "kills"})
    write_atomic(
        Path(__file__).parent / "results/kill_and_resume.json",
        (json.dumps(result, indent=1) + "\n").encode(),
    )
    return same and logs[0] == logs[1]


if __name__ == "__main__":
    main()
