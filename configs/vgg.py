"""VGG: Simonyan and Zisserman 2015, configurations A to E.

command   python train.py --config=configs/vgg.py:net=vgg_A --workdir=runs/vgg_A_digits
          and :net=vgg_D,data=imagenet2012,scale=paper for the paper's experiment. As it was trained
          (section 3.1), each run from the one before: net=vgg_A; net=vgg_D,from=runs/A, which takes
          A's first four convolutions and dense layers; net=vgg_D,s=384,from=runs/D, all layers at a
          tenth of the rate; net=vgg_D,s=jitter,from=runs/D_384
hardware  digits: two CPU cores, a minute; imagenet2012 at paper scale: eight GPUs, days
paper     Table 3 (one scale, S = Q = 256), top-1 / top-5 error: A 29.6 / 10.4, B 28.7 / 9.9,
          C 28.1 / 9.4, D 27.0 / 8.8, E 27.3 / 9.0
here      digits, seed 0: vgg_A 0.83% test and 0.00% training error; in batches of 64, with half the
          steps, 9.7 and 15.9%
deviates  paper: without from=, B to E start from random weights, not from a trained A. Random
          weights are He's, also those of the layers that A does not give (with the printed variance
          of 10⁻² neither D nor E trains from scratch). The jittered nets' first rate is not
          printed: it is that of S = 384. Pixels are in 0..1 minus their mean: He's weights keep the
          input's scale, and with 0..255 the loss diverges within four steps. 10,000 training images
          are held out to decide when the rate drops; the mean colour is computed from 10,000
          images.
          small: images of 32 pixels, a quarter of the width, no dropout, cosine schedule
"""

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import IMAGE_SETS, base, colour_images, drop_on_plateau, smoke
from errors import UserError
from models.vgg import CONFIGURATIONS

COLUMNS = ("A", "A_LRN", "B", "C", "D", "E", "B_5x5")
NETS = tuple(f"vgg_{column}" for column in COLUMNS) + tuple(f"vgg_{c}_bn" for c in "ABCDE")
# Short side of the training images: section 3.1.
SCALES = {
    "256": "random_crop(side=256)",
    "384": "random_crop(side=384)",
    "jitter": "scale_jitter(low=256, high=512)",
}


def get_config(argument: str | None = None) -> ConfigDict:
    """net=vgg_A|...|vgg_E|vgg_B_5x5|vgg_A_bn|..., s=256|384|jitter (at paper scale),
    data=digits|fashion_mnist|fashion_mnist_scenes|cifar10|imagenette|imagenet2012|synthetic,
    scale=small|paper|smoke, from=WORKDIR of a trained A, or for s=384 and jitter of the same net.
    """
    chosen = parse(
        argument,
        net=NETS,
        s=tuple(SCALES),
        data=IMAGE_SETS,
        scale=("small", "paper", "smoke"),
        **{"from": ""},
    )
    data, scale = chosen["data"], chosen["scale"]
    small = scale == "small"

    config = base()
    config.model = {
        "name": chosen["net"],
        "initializer": "he",
        "width": 0.25 if small else 1.0,
        "dropout": 0.0 if small else 0.5,
        "dtype": "float32",
    }
    if chosen["net"].endswith("_bn"):
        config.model.batch_norm_group = 32
    colour_images(config, data, side=32 if small else 224, printed=224)
    config.optimizer = {"name": "caffe_sgd", "momentum": 0.9, "weight_decay": 5e-4}
    if small:
        config.batch_size = 32
        config.data.normalize = ("scale()", "mean_sd()")
        config.schedule = {"name": "cosine", "rate": 0.02, "warmup": "1 epochs"}
        config.duration = "15 epochs"
    else:
        config.batch_size = 256
        config.data.augment = (
            SCALES[chosen["s"]],
            "flip()",
            "pca_colour(sd=0.1, samples=10000)",
        )
        config.data.normalize = ("scale()", "channel_mean(samples=10000)")
        drop_on_plateau(config, rate=0.01)
        config.duration = "74 epochs"
        config.checkpoint.every = "1 epochs"
    if chosen["from"]:
        config.init["from"] = chosen["from"]
        if chosen["s"] == "256":
            config.init.skip = not_from_a(chosen["net"])
        else:  # the paper's 10⁻³ for 10⁻²
            config.schedule.rate /= 10
    if scale == "smoke":
        config.model.width = 0.0625
        config.data.validation = 8
        smoke(config, (224, 224, 3), 1000)
        if chosen["net"].endswith("_bn"):
            config.model.batch_norm_group = 8
    config.lock()
    return config


def not_from_a(net: str) -> tuple[str, ...]:
    """Patterns of the layers that a net does not take from a trained A: section 3.1.

    It takes the first four convolutions and the dense layers. Raises UserError for A itself.
    """
    column = net.removeprefix("vgg_").removesuffix("_bn")
    if column in ("A", "A_LRN"):
        raise UserError(f"config argument 'from': {net} starts from random weights; remove it")

    def layers(of: str) -> list[str]:
        stages = enumerate(CONFIGURATIONS[of], start=1)
        return [f"conv{n}_{i}" for n, stage in stages for i in range(1, len(stage) + 1)]

    taken = layers("A")[:4]
    others = dict.fromkeys(name for of in (column, "A") for name in layers(of))
    return tuple(f"{name}/*" for name in others if name not in taken)
