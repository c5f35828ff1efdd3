"""What to measure against: the same work, done the way one would do it first, and as well as that way allows."""

import copy, random

import torch
from PIL import Image, ImageFilter
from torch import nn
from torchvision import transforms as T

from di3cl.encoder import Encoder, pool
from di3cl.pretrain import IMAGENET
from di3cl.sar import Preprocess

def _blur(x): return x.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))

def pil_pipeline(size,        # side of a view, pixels
                 channels=3): # 3: grey copied to RGB, as released; 1: without what does nothing to grey
    "The published views, one PIL image at a time (He et al. 2020, Chen et al. 2020); drawn, as torchvision does, from the global generators."
    colour, grey = ((0.4, 0.4, 0.4, 0.1), [T.RandomGrayscale(p=0.2)]) if channels == 3 else ((0.4, 0.4), [])
    return T.Compose([T.RandomResizedCrop(size, scale=(0.2, 1.0)), T.RandomHorizontalFlip(), T.RandomApply([T.ColorJitter(*colour)], p=0.8), *grey,
                      T.RandomApply([_blur], p=0.5), T.ToTensor(), T.Normalize(*(values[:channels] for values in IMAGENET))])

def _pictures(n, side):
    "n eight-bit pictures of smooth noise, (n, 1, side, side) float."
    x = torch.rand(n, 1, max(1, side // 32), max(1, side // 32), generator=torch.Generator().manual_seed(0))
    return (255 * nn.functional.interpolate(x, size=(side, side), mode="bicubic")).clamp(0, 255).round()

def _as_pil(pictures, channels=3): return [Image.fromarray(p[0].byte().numpy()).convert("RGB" if channels == 3 else "L") for p in pictures]

def _eight_bit(channels):
    "ImageNet's statistics for eight-bit numbers."
    return Preprocess("digital", *([255 * v for v in values[:channels]] for values in IMAGENET), (0, 255), ("R", "G", "B")[:channels])

class TwoViews(torch.utils.data.Dataset):
    "Two views of each picture."
    def __init__(self, images, pipeline): self.images, self.pipeline = images, pipeline
    def __len__(self): return len(self.images)
    def __getitem__(self, k): return self.pipeline(self.images[k]), self.pipeline(self.images[k])

def in_a_worker(views):                      # a TwoViews
    "A function that gets one batch of all of them from a worker process, which lives on between calls."
    loader = torch.utils.data.DataLoader(views, len(views), num_workers=1, persistent_workers=True)
    return lambda: next(iter(loader))

def _iou(a, b):
    w, h = (max(0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return w * h / (area(a) + area(b) - w * h)

def _span(lo, hi, least):
    "A random cell of a random grid between lo and hi, and in it a span of at least `least`."
    cells = random.randint(1, int((hi - lo) / least))
    cell = (hi - lo) / cells
    side = random.uniform(least, cell)
    start = lo + random.randrange(cells) * cell + random.uniform(0, cell - side)
    return start, start + side

def loop_boxes(params1, params2, size, n_boxes=10, min_size=32, max_iou=0.5, tries=50):   # as sample_boxes
    "What `sample_boxes` does, as a loop over images, boxes and tries: a list of [(x0, y0, x1, y1), ...] in source pixels; from Python's `random`."
    result = []
    for (t1, l1, h1, w1, _), (t2, l2, h2, w2, _) in zip(params1.tolist(), params2.tolist()):
        (x0, x1, least_x), (y0, y1, least_y) = ((max(a, b), min(a + m, b + n), max(m, n) * min_size / size) for a, b, m, n in ((l1, l2, w1, w2), (t1, t2, h1, h2)))
        boxes = []
        for _ in range(n_boxes if x1 - x0 >= least_x and y1 - y0 >= least_y else 0):
            for _ in range(tries):
                (a0, a1), (b0, b1) = _span(x0, x1, least_x), _span(y0, y1, least_y)
                if all(_iou((a0, b0, a1, b1), other) <= max_iou for other in boxes): boxes.append((a0, b0, a1, b1)); break
        result.append(boxes)
    return result

class LightlyMoco:
    "MoCo v2 from lightly's parts: called with two views, does one step (of learning rate 0) and returns its loss."
    def __init__(self, config, channels, device, dtype=None):       # Config; input channels; torch device; dtype of autocast
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.utils import deactivate_requires_grad, update_momentum
        encoder = Encoder(config.arch, channels, config.stride)
        self.online = nn.ModuleList([encoder, MoCoProjectionHead(encoder.widths[3], encoder.widths[3], config.dim)]).to(device, memory_format=torch.channels_last)
        self.twin, self.move = copy.deepcopy(self.online), lambda: update_momentum(self.online, self.twin, config.momentum)
        deactivate_requires_grad(self.twin)
        self.loss = NTXentLoss(config.temperature, memory_bank_size=(config.queue_size, config.dim)).to(device)
        self.optimizer = torch.optim.SGD(self.online.parameters(), 0., config.sgd_momentum, weight_decay=config.weight_decay)
        self.autocast = lambda: torch.autocast(device.type, dtype, enabled=dtype is not None)

    def __call__(self, view1, view2):        # (B, C, S, S) each
        embed = lambda net, view: net[1](pool(net[0](view)[3]))
        self.move()
        with self.autocast():
            query = embed(self.online, view1)
            with torch.no_grad(): key = embed(self.twin, view2)
            loss = self.loss(query, key)
        self.optimizer.zero_grad(); loss.backward(); self.optimizer.step()
        return loss.detach()

def lightly_views(config, channels, n=16):   # Config; 1 or 3; pictures
    "A function that makes lightly's MoCo v2 views of n pictures of the size of a tile, two each, in this process."
    from lightly.transforms import MoCoV2Transform
    mean, std = (list(values[:channels]) for values in IMAGENET)
    transform, images = MoCoV2Transform(config.view, normalize=dict(mean=mean, std=std)), _as_pil(_pictures(n, config.tile), channels)
    return lambda: [torch.stack(views) for views in zip(*map(transform, images))]
