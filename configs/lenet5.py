"""LeNet-5 (LeCun et al. 1998), the modern variant: digits learned in seconds on two cores.

command   python train.py --config=configs/lenet5.py:data=digits --workdir=runs/lenet5_digits
hardware  two CPU cores; about 15 s for digits, about 2 minutes for Fashion-MNIST
paper     0.95% test error on MNIST (section III.B), by the 1998 network and its own training
here      see the README's results
deviates  the modern network (full C3, ReLU, max pooling, softmax), SGD with momentum in batches
"""

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import base

DATA = ("digits", "mnist", "fashion_mnist", "synthetic")


def get_config(argument: str | None = None) -> ConfigDict:
    """data=digits|mnist|fashion_mnist|synthetic, scale=small|smoke."""
    chosen = parse(argument, data=DATA, scale=("small", "smoke"))
    smoke = chosen["scale"] == "smoke"

    config = base()
    config.model.name = "lenet5_modern"
    config.data.name = chosen["data"]
    if chosen["data"] == "synthetic":
        config.data.name = "synthetic:28x28x1:10:256:64"
    config.data.size = 32
    config.data.augment = ("pad_crop(pixels=2)",) if chosen["data"] == "digits" else ()
    config.data.normalize = ("scale()", "mean_sd()")
    config.batch_size = 64
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4}
    config.schedule = {"name": "cosine", "rate": 0.02, "warmup": "2 epochs"}
    config.duration = "60 epochs" if chosen["data"] == "digits" else "20 epochs"
    if smoke:
        config.duration = "8 steps"
        config.log_every = config.eval.every = config.checkpoint.every = "4 steps"
    config.lock()
    return config
