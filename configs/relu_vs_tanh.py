"""ReLU against tanh: Krizhevsky et al. 2012, Fig. 1, with cuda-convnet's four-layer network.

command   python train.py --config=configs/relu_vs_tanh.py:activation=relu,data=digits --workdir=...
hardware  digits: two CPU cores, a minute; cifar10: one GPU, minutes
paper     Fig. 1, CIFAR-10: ReLU reaches 25% training error in a sixth of the epochs that tanh
          needs, each at its own best rate, without regularisation
here      digits, five seeds, each at its best rate: ReLU needs 29 ± 4 updates, tanh 15 ± 1
          (results/relu_vs_tanh): the other way round
deviates  the paper does not describe its network; this is the released cuda-convnet one without
          normalisation and weight decay. small: initial weights of He et al. 2015, since with the
          released ones (standard deviation 1e-4 in conv1) ReLU stays at chance on small data
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import base, smoke, synthetic

DATA = ("digits", "fashion_mnist", "fashion_mnist_scenes", "cifar10", "synthetic")


def get_config(argument: str | None = None) -> ConfigDict:
    """activation=relu|tanh, rate=0.01,
    data=digits|fashion_mnist|fashion_mnist_scenes|cifar10|synthetic,
    scale=small|paper|smoke, init=recommended (He's)|paper (the released standard deviations).
    """
    chosen = parse(
        argument,
        activation=("relu", "tanh"),
        rate=0.01,
        data=DATA,
        scale=("small", "paper", "smoke"),
        init=("recommended", "paper"),
    )
    paper = chosen["scale"] == "paper" or chosen["init"] == "paper"

    config = base()
    config.model = {
        "name": "cuda_convnet_cifar10_18pct",
        "activation": chosen["activation"],
        "initializer": "paper" if paper else "he",
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
    """The rates from which each activation's best is chosen, with three seeds each."""
    for seed in range(3):
        for rate in (0.003, 0.01, 0.03, 0.1):
            yield {"schedule.rate": rate, "seed": seed}
