"""Plain and residual networks on ImageNet: He et al. 2016a, section 4.1, and He et al. 2016b.

command   python train.py --config=configs/resnet_imagenet.py:depth=18 --workdir=runs/resnet18
          and :depth=50,data=imagenet2012,scale=paper for the paper's experiment
hardware  digits: two CPU cores, minutes; imagenet2012 at paper scale: eight GPUs, days
paper     Tables 2 and 3, ten crops, top-1 error: plain-18 27.94, ResNet-18 A 27.88, plain-34 28.54,
          ResNet-34 A 25.03, B 24.52, C 24.19, ResNet-50 22.85, -101 21.75, -152 21.43
here      digits, ResNet-18, seed 0: 0.56% test and 0.00% training error after 20 epochs
deviates  paper: 10,000 training images are held out to decide when the rate drops; the mean image
          and the colour axes are computed from 10,000 images. depth=200: the rate drops at epochs
          30 and 60 of 90.
          small: images of 64 pixels, a quarter of the width, cosine schedule
"""

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import IMAGE_SETS, base, colour_images, drop_at, drop_on_plateau, smoke
from errors import UserError

BASIC, BOTTLENECK = (18, 34), (50, 101, 152)


def get_config(argument: str | None = None) -> ConfigDict:
    """depth=18|34|50|101|152|200, shortcut=none|A|B|C (18, 34), version=v1|v1_5 (50 to 152),
    data=digits|fashion_mnist|fashion_mnist_scenes|cifar10|imagenette|imagenet2012|synthetic,
    scale=small|paper|smoke.
    """
    chosen = parse(
        argument,
        depth=(*BASIC, *BOTTLENECK, 200),
        shortcut=("auto", "none", "A", "B", "C"),
        version=("auto", "v1", "v1_5"),
        data=IMAGE_SETS,
        scale=("small", "paper", "smoke"),
    )
    data, scale, depth = chosen["data"], chosen["scale"], chosen["depth"]
    small = scale == "small"

    config = base()
    config.model = {
        "name": network(depth, chosen["shortcut"], chosen["version"]),
        "initializer": "paper",  # He et al. 2015
        "width": 0.25 if small else 1.0,
        "dtype": "float32",
        "batch_norm_group": 32,  # images normalised together, as on each of the paper's eight GPUs
        "remat": False,
    }
    colour_images(config, data, side=64 if small else 224, printed=224)
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4}
    if small:
        config.batch_size = 64
        config.data.normalize = ("scale()", "mean_sd()")
        config.schedule = {"name": "cosine", "rate": 0.1, "warmup": "2 epochs"}
        config.duration = "20 epochs"
    else:
        config.batch_size = 256
        config.data.augment = (
            "scale_jitter(low=256, high=480)",
            "flip()",
            "pca_colour(sd=0.1, samples=10000)",
        )
        config.data.normalize = ("per_pixel_mean(samples=10000)",)
        config.bn_recompute_batches = 100
        config.checkpoint.every = "1 epochs"
        if depth == 200:
            drop_at(config, 0.1, ("30 epochs", "60 epochs"))
            config.duration = "90 epochs"
        else:
            drop_on_plateau(config, rate=0.1)
            config.duration = "600000 steps"
    if scale == "smoke":
        config.model.width = 0.125
        config.data.validation = 8
        config.model.batch_norm_group = 8
        config.bn_recompute_batches = 1
        smoke(config, (224, 224, 3), 1000)
    config.lock()
    return config


def network(depth: int, shortcut: str, version: str) -> str:
    """The name in models.NETWORKS. Raises UserError for an option that the depth does not have."""
    if depth in BASIC:
        if version != "auto":
            raise UserError(f"config argument 'version={version}': depth={depth} has no versions")
        return f"plain{depth}" if shortcut == "none" else f"resnet{depth}_{_or(shortcut, 'A')}"
    if shortcut not in ("auto", "B"):
        raise UserError(f"config argument 'shortcut={shortcut}': depth={depth} needs B")
    if depth == 200:
        if version != "auto":
            raise UserError(f"config argument 'version={version}': depth={depth} has no versions")
        return "resnet200_preact"
    return f"resnet{depth}_{_or(version, 'v1')}"


def _or(value: str, default: str) -> str:
    return default if value == "auto" else value
