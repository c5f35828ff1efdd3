"""What to measure against: the same work, done the way one would do it first."""

import copy
import random

import torch
from PIL import Image, ImageFilter
from torch import nn
from torchvision import transforms as T

from di3cl.encoder import Encoder, pool
from di3cl.pretrain import IMAGENET
from di3cl.sar import Preprocess


def _blur(x):
    return x.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def pil_pipeline(
    size,        # side of a view, pixels
    channels=3,  # 3: grey copied to RGB, as released; 1: without what is idle on grey
):
    """Make the published views, one PIL image at a time, from the global generators.

    Sources: He et al. 2020, Chen et al. 2020."""
    jitter = (0.4, 0.4, 0.4, 0.1) if channels == 3 else (0.4, 0.4)
    grey = [T.RandomGrayscale(p=0.2)] if channels == 3 else []
    return T.Compose([
        T.RandomResizedCrop(size, scale=(0.2, 1.0)),
        T.RandomHorizontalFlip(),
        T.RandomApply([T.ColorJitter(*jitter)], p=0.8),
        *grey,
        T.RandomApply([_blur], p=0.5),
        T.ToTensor(),
        T.Normalize(*(values[:channels] for values in IMAGENET)),
    ])


def smooth_pictures(n, side):
    "Draw n eight-bit pictures of smooth noise, (n, 1, side, side) float."
    coarse = max(1, side // 32)
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, coarse, coarse, generator=g)
    x = 255 * nn.functional.interpolate(x, size=(side, side), mode="bicubic")
    return x.clamp(0, 255).round()


def as_pil(pictures, channels=3):
    "Convert (n, 1, side, side) to PIL images."
    mode = "RGB" if channels == 3 else "L"
    return [Image.fromarray(p[0].byte().numpy()).convert(mode) for p in pictures]


def eight_bit(channels):
    "Return ImageNet's statistics for eight-bit numbers."
    mean, std = ([255 * v for v in values[:channels]] for values in IMAGENET)
    return Preprocess("digital", mean, std, (0, 255), ("R", "G", "B")[:channels])


class TwoViews(torch.utils.data.Dataset):
    "Two views of each picture."

    def __init__(self, images, pipeline):
        self.images, self.pipeline = images, pipeline

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        return self.pipeline(self.images[k]), self.pipeline(self.images[k])


def in_a_worker(views):
    "Return a function that gets a batch of a whole TwoViews from a worker process."
    loader = torch.utils.data.DataLoader(
        views, len(views), num_workers=1, persistent_workers=True)
    return lambda: next(iter(loader))


def _area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def _iou(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / (_area(a) + _area(b) - w * h)


def _span(lo, hi, least):
    "Draw a cell of a random grid between lo and hi, and in it a span >= `least`."
    cells = random.randint(1, int((hi - lo) / least))
    cell = (hi - lo) / cells
    side = random.uniform(least, cell)
    start = lo + random.randrange(cells) * cell + random.uniform(0, cell - side)
    return start, start + side


def _boxes(x, y, n_boxes, max_iou, tries):
    "Draw boxes in an overlap; x and y are (from, to, least side)."
    boxes = []
    for _ in range(n_boxes):
        for _ in range(tries):
            (x0, x1), (y0, y1) = _span(*x), _span(*y)
            box = x0, y0, x1, y1
            if all(_iou(box, other) <= max_iou for other in boxes):
                boxes.append(box)
                break
    return boxes


def loop_boxes(
    params1,      # (n, 5), as in sample_boxes
    params2,      # (n, 5)
    size,         # of a view, pixels
    n_boxes=10,   # a tile
    min_size=32,  # view pixels
    max_iou=0.5,  # of two boxes of a tile
    tries=50,     # for each box
):
    "Do what `sample_boxes` does in a loop: a list of [(x0, y0, x1, y1), ...]."
    result = []
    for p, q in zip(params1.tolist(), params2.tolist()):
        spans = []
        for k in (1, 0):  # left and width, top and height
            lo, hi = max(p[k], q[k]), min(p[k] + p[k + 2], q[k] + q[k + 2])
            spans.append((lo, hi, max(p[k + 2], q[k + 2]) * min_size / size))
        fits = all(hi - lo >= least for lo, hi, least in spans)
        result.append(_boxes(*spans, n_boxes, max_iou, tries) if fits else [])
    return result


class LightlyMoco:
    "MoCo v2 from lightly's parts; a call with two views does one step, of rate 0."

    def __init__(
        self,
        config,      # Config
        channels,    # of the input
        device,      # torch device
        dtype=None,  # of autocast
    ):
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.utils import deactivate_requires_grad

        encoder = Encoder(config.arch, channels, config.stride, width=config.width)
        width = encoder.widths[3]
        head = MoCoProjectionHead(width, width, config.dim)
        self.online = nn.ModuleList([encoder, head])
        self.online = self.online.to(device, memory_format=torch.channels_last)
        self.twin = copy.deepcopy(self.online)
        deactivate_requires_grad(self.twin)
        bank = config.queue_size, config.dim
        self.loss = NTXentLoss(config.temperature, memory_bank_size=bank).to(device)
        self.optimizer = torch.optim.SGD(
            self.online.parameters(), 0., config.sgd_momentum,
            weight_decay=config.weight_decay)
        self.device, self.dtype, self.momentum = device, dtype, config.momentum

    def __call__(self, view1, view2):
        from lightly.models.utils import update_momentum

        update_momentum(self.online, self.twin, self.momentum)
        amp = self.dtype is not None
        with torch.autocast(self.device.type, self.dtype, enabled=amp):
            query = self._embed(self.online, view1)
            with torch.no_grad():
                key = self._embed(self.twin, view2)
            loss = self.loss(query, key)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @staticmethod
    def _embed(network, view):
        encoder, head = network
        return head(pool(encoder(view)[3]))


def lightly_views(
    config,    # Config
    channels,  # 1 or 3
    n=16,      # pictures
):
    "Return a function that makes lightly's two views of n pictures, in this process."
    from lightly.transforms import MoCoV2Transform

    mean, std = (list(values[:channels]) for values in IMAGENET)
    transform = MoCoV2Transform(config.view, normalize=dict(mean=mean, std=std))
    images = as_pil(smooth_pictures(n, config.tile), channels)
    return lambda: [torch.stack(views) for views in zip(*map(transform, images))]
