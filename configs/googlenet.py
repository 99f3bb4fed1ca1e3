"""GoogLeNet: Szegedy et al. 2015, with or without its side heads.

command   python train.py --config=configs/googlenet.py:aux=on --workdir=runs/googlenet_digits
          python train.py --config=configs/googlenet.py:data=imagenet2012,scale=paper --workdir=...
hardware  digits: two CPU cores, minutes; imagenet2012 at paper scale: one GPU, weeks (250 epochs)
paper     10.07% top-5 error, one model and one crop (Table 3)
here      digits, seed 0, with side heads: 0.83% test error after 40 epochs (aux1 1.11%, aux2
          0.56%), 0.00% training error
deviates  paper: batch 32, rate 0.01, decay 2·10⁻⁴ and 250 epochs are from Caffe's release, since
          the paper prints none; SGD is synchronous; Polyak averaging covers the last 50 epochs.
          solver=quick is Caffe's: the rate falls as a square root over 60 epochs.
          Images are always resized bilinearly; the paper drew one of four interpolations for each
          "relatively late" in training.
          small: images of 16 pixels, a quarter of the width, a 3×3 stem, heads that pool 2×2, He's
          initial weights, no dropout in the trunk
"""

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import IMAGE_SETS, base, smoke, synthetic

HEADS = ("aux1", "aux2")


def get_config(argument: str | None = None) -> ConfigDict:
    """aux=on|off, solver=paper|quick (at paper scale), module=reduced|naive|unreduced,
    data=digits|fashion_mnist|fashion_mnist_scenes|cifar10|imagenette|imagenet2012|synthetic,
    scale=small|paper|smoke.
    """
    chosen = parse(
        argument,
        aux=("on", "off"),
        solver=("paper", "quick"),
        module=("reduced", "naive", "unreduced"),
        data=IMAGE_SETS,
        scale=("small", "paper", "smoke"),
    )
    data, scale = chosen["data"], chosen["scale"]
    small = scale == "small"

    config = base()
    config.model = {
        "name": "googlenet_small" if small else "googlenet_2014",
        "heads": HEADS if chosen["aux"] == "on" else (),
        "module": chosen["module"],
        "dropout": 0.0 if small else 0.4,
        "initializer": "he" if small else "paper",
        "width": 0.25 if small else 1.0,
        "dtype": "float32",
    }
    if chosen["aux"] == "on":
        config.loss.weights = {"main": 1.0, "aux1": 0.3, "aux2": 0.3}
    config.eval.heads = config.model.heads
    config.data.name = data
    config.data.size = 16 if small else 224
    config.data.channels = 0 if small else 3
    if data == "synthetic":
        config.data.name = synthetic((224, 224, 3), 1000)
    if small:
        config.batch_size = 64
        config.data.normalize = ("scale()", "mean_sd()")
        config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 2e-4}
        config.schedule = {"name": "cosine", "rate": 0.02, "warmup": "2 epochs"}
        config.duration = "40 epochs"
    else:
        config.batch_size = 32
        config.data.augment = ("area_crop()", "flip()", "photometric()")
        config.data.normalize = ("channel_mean(samples=10000)",)
        config.optimizer = {"name": "caffe_sgd", "momentum": 0.9, "weight_decay": 2e-4}
        config.parameters.rates = (("*bias", 2.0),)
        config.checkpoint.every = "1 epochs"
        if chosen["solver"] == "quick":
            config.schedule = {"name": "polynomial", "rate": 0.01, "power": 0.5}
            config.duration = "60 epochs"
        else:
            config.schedule = {
                "name": "exponential",
                "rate": 0.01,
                "factor": 0.96,
                "every": "8 epochs",
            }
            config.averaging = {"name": "polyak", "start": "200 epochs"}
            config.duration = "250 epochs"
    if scale == "smoke":
        config.model.width = 0.125
        smoke(config, (224, 224, 3), 1000)
        config.averaging = {"name": "polyak", "start": "1 steps"}
    config.lock()
    return config
