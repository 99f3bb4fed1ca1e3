"""ReLU against tanh: Krizhevsky et al. 2012, Fig. 1, with cuda-convnet's four-layer network.

command   python train.py --config=configs/relu_vs_tanh.py:activation=relu,data=digits --workdir=...
hardware  digits: two CPU cores, a minute; cifar10: one GPU, minutes
paper     Fig. 1, CIFAR-10: ReLU reaches 25% training error in a sixth of the epochs that tanh
          needs, each at its own best rate, without regularisation
here      Fashion-MNIST, seed 100, training error after two epochs: ReLU 12.8% at its best rate of
          0.03, tanh 12.2% at 0.1 (results/LOG.md)
deviates  the paper does not describe its network; this is the released cuda-convnet one without
          normalisation and weight decay. Initial weights are those each activation needs: He's for
          ReLU, Glorot's for tanh. init=paper has the released ones (standard deviation 1e-4 in
          conv1), with which ReLU stays at chance on small data
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import base, smoke, synthetic

DATA = ("digits", "fashion_mnist", "fashion_mnist_scenes", "cifar10", "synthetic")
START = {"relu": "he", "tanh": "glorot"}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def get_config(argument: str | None = None) -> ConfigDict:
    """activation=relu|tanh, rate=0.01,
    data=digits|fashion_mnist|fashion_mnist_scenes|cifar10|synthetic,
    scale=small|smoke, init=recommended (He's for ReLU, Glorot's for tanh)|paper (the released
    standard deviations).
    """
    chosen = parse(
        argument,
        activation=("relu", "tanh"),
        rate=0.01,
        data=DATA,
        scale=("small", "smoke"),
        init=("recommended", "paper"),
    )
    paper = chosen["init"] == "paper"

    config = base()
    config.model = {
        "name": "cuda_convnet_cifar10_18pct",
        "activation": chosen["activation"],
        "initializer": "paper" if paper else START[chosen["activation"]],
        "width": 1.0,
        "dtype": "float32",
    }
    config.data.name = chosen["data"]
    if chosen["data"] == "synthetic":
        config.data.name = synthetic((32, 32, 3), 10)
    elif chosen["data"] == "digits":
        config.data.size = 16
    # The released network's small first weights are for pixels of 0..255 minus their mean.
    config.data.normalize = ("per_pixel_mean()",) if paper else ("scale()", "mean_sd()")
    config.optimizer = {"name": "caffe_sgd", "momentum": 0.9, "weight_decay": 0.0}
    config.schedule = {"name": "constant", "rate": chosen["rate"]}
    config.duration = "40 epochs"
    if chosen["scale"] == "smoke":
        smoke(config, (32, 32, 3), 10)
    config.lock()
    return config


def sweep() -> Iterator[dict[str, object]]:
    """The rates from which the activation's best is chosen."""
    for rate in RATES:
        yield {"schedule.rate": rate}
