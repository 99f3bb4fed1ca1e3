"""Plain and residual networks on small images: He et al. 2016a, section 4.2, and He et al. 2016b.

command   python train.py --config=configs/resnet_cifar.py:depth=56,shortcut=none --workdir=runs/p56
          (digits, small); data=cifar10,scale=paper for the paper's experiment
hardware  digits: two CPU cores, about 20 s for 20 layers, 50 s for 56;
          cifar10 at paper scale: one GPU, an hour or two
paper     Table 6, CIFAR-10 test error: 8.75% (20), 7.51% (32), 7.17% (44), 6.97% (56), 6.43% (110),
          7.93% (1202 layers); plain nets get worse with depth (Fig. 6), plain-110 above 60%.
          Pre-activation (He et al. 2016b, Tables 2-4): 6.37% (110), 5.46% (164), 4.92% (1001)
here      digits, five seeds, training error after 330 steps: plain-20, 32, 44, 56: 0.0, 0.3, 28.9,
          38.4%; ResNet-20, 32, 44, 56: 0.0% each (results/degradation)
deviates  The rate is outside the velocity, as in the second paper's code (Torch). Caffe, in which
          the first paper's nets were released, has it inside (optimizer.name=caffe_sgd).
          Padding is black and comes before the mean is subtracted, so crops see a dark border; in
          the second paper's code it comes after, so the border is the mean.
          paper: batch-norm statistics are over groups of 64 images, as on each of the paper's two
          GPUs; after the last step they are recomputed on 100 batches, as in the released nets.
          small: 330 steps on digits (8×8, no augmentation); all depths have the warm-up of the
          110-layer net, since without it plain-56 is still at chance when they end
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import base, smoke, synthetic
from errors import UserError

DATA = ("digits", "fashion_mnist", "fashion_mnist_scenes", "cifar10", "cifar100", "synthetic")
BASIC = (20, 32, 44, 56, 110, 1202)  # 6n+2 layers, two 3×3 per unit
BOTTLENECK = (164, 1001)  # 9n+2 layers
# Durations at small scale, by data set: training, and the warm-up at a constant rate of 0.01.
SMALL = {
    "digits": ("330 steps", "44 steps"),
    "fashion_mnist": ("20 epochs", "400 steps"),
    "fashion_mnist_scenes": ("20 epochs", "400 steps"),
    "cifar10": ("40 epochs", "400 steps"),
    "cifar100": ("40 epochs", "400 steps"),
    "synthetic": ("60 steps", "8 steps"),
}


def get_config(argument: str | None = None) -> ConfigDict:
    """depth=20|32|44|56|110|1202|164|1001, shortcut=paper|none|A|B|C, unit=original|preact,
    data=digits|fashion_mnist|fashion_mnist_scenes|cifar10|cifar100|synthetic,
    scale=small|paper|smoke.

    shortcut=paper is A, or B for 164 and 1001 layers; shortcut=none is the plain net.
    """
    chosen = parse(
        argument,
        depth=(*BASIC, *BOTTLENECK),
        shortcut=("paper", "none", "A", "B", "C"),
        unit=("original", "preact"),
        data=DATA,
        scale=("small", "paper", "smoke"),
    )
    data, scale = chosen["data"], chosen["scale"]

    config = base()
    config.model = network(chosen["depth"], chosen["shortcut"], chosen["unit"])
    config.data.name = data
    config.data.normalize = ("scale()", "per_pixel_mean()")
    if data in ("fashion_mnist_scenes", "cifar10", "cifar100") or scale == "paper":
        config.data.augment = ("pad_crop(pixels=4)", "flip()")
    elif data == "fashion_mnist":
        config.data.size = 14
        config.data.augment = ("pad_crop(pixels=2)", "flip()")
    if data == "synthetic":
        config.data.name = synthetic((32, 32, 3), 10)

    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4}
    config.schedule = {"name": "steps", "rate": 0.1, "factor": 10.0, "warmup_rate": 0.01}
    if scale == "paper":
        config.duration = "64000 steps"
        config.schedule.drops = ("32000 steps", "48000 steps")
        # Every net of the second paper starts at a rate of 0.01. In the first paper only the
        # 110-layer net does, until its training error is below 80%.
        second_paper = chosen["unit"] == "preact" or chosen["depth"] in BOTTLENECK
        config.schedule.warmup = "400 steps" if second_paper else ""
        if chosen["depth"] == 110 and not second_paper:
            del config.schedule.warmup
            config.schedule.update(name="steps_after_error", below=0.8, over="100 steps")
        config.bn_recompute_batches = 100
    else:
        config.duration, config.schedule.warmup = SMALL[data]
        number, unit = config.duration.split()
        config.schedule.drops = tuple(f"{float(number) * share:g} {unit}" for share in (0.5, 0.75))
    if scale == "smoke":
        smoke(config, (32, 32, 3), 10)
        config.model.batch_norm_group = 8
        config.schedule.warmup, config.schedule.drops = "1 steps", ("2 steps", "3 steps")
    config.lock()
    return config


def network(depth: int, shortcut: str, unit: str) -> dict[str, object]:
    """The `model` fields of a network. Raises UserError if models.NETWORKS does not have it."""
    if depth in BOTTLENECK:
        if shortcut not in ("paper", "B"):
            raise UserError(f"config argument 'shortcut={shortcut}': depth={depth} needs B")
        name = f"resnet{depth}_cifar10_{unit}"
    elif unit == "preact":
        if depth != 110 or shortcut not in ("paper", "A"):
            raise UserError(
                "config argument 'unit=preact': needs depth=110 and shortcut=A, or depth=164 or "
                "1001 and shortcut=B"
            )
        name = "resnet110_cifar10_preact"
    elif shortcut == "none" and depth != 1202:
        name = f"plain{depth}_cifar10"
    else:
        kind = "A" if shortcut == "paper" else shortcut
        if depth == 1202 and kind != "A":
            raise UserError(f"config argument 'shortcut={shortcut}': depth=1202 needs A")
        name = f"resnet{depth}_cifar10_{kind}"
    return {
        "name": name,
        "initializer": "paper",  # He et al. 2015, or a name in models.layers.INITIALIZERS
        "width": 1.0,  # multiplies every layer's channels
        "dtype": "float32",  # of the computation; bfloat16 is mixed precision
        "batch_norm_group": 64,  # images normalised together, as on each of the paper's two GPUs
    }


def sweep() -> Iterator[dict[str, object]]:
    """The residual and the plain network, with three seeds each."""
    for seed in range(3):
        yield {"seed": seed}
        yield {"model.shortcut": "none", "seed": seed}
