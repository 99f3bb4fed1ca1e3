"""LeNet-5: the network and recipe of LeCun et al. 1998, and the modern version of lectures.

command   python train.py --config=configs/lenet5.py:data=digits --workdir=runs/lenet5_digits
          python train.py --config=configs/lenet5.py:net=1998,data=digits --workdir=runs/lenet5_1998
hardware  two CPU cores; modern: 15 s for digits, 2 minutes for Fashion-MNIST; 1998: a minute for
          digits, half an hour for MNIST or Fashion-MNIST (one image a step)
paper     0.95% test error on MNIST (section III.B, Fig. 5), by the 1998 network and recipe
here      digits: modern 0.56% test error (seed 0); 1998: 0.83 to 1.39% (three seeds, 20 passes,
          0.14 to 0.28% training error), the same with eq. 9; with the printed initial weights 89
          and 92% (two seeds). 1998 on 10,000 images of Fashion-MNIST: 16.6 ± 0.6% (three seeds)
deviates  modern: full C3, ReLU, max pooling, softmax, minibatch SGD with momentum.
          1998: initial weights are uniform in ±2.4/√fan-in. With the paper's ±2.4/fan-in
          (init=paper) the curvature is near 0, the step sizes approach η/μ, and the units saturate.
          Every pass has its own order of images; the paper keeps one random order for all passes.
          Images are stretched to 32 pixels; the paper centres 28×28 in a 32×32 field, so here
          strokes are thicker by an eighth
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import base, smoke, synthetic

DATA = ("digits", "mnist", "fashion_mnist", "fashion_mnist_scenes", "synthetic")


def get_config(argument: str | None = None) -> ConfigDict:
    """net=modern|1998, data=digits|mnist|fashion_mnist|fashion_mnist_scenes|synthetic,
    scale=small|paper|smoke.

    For net=1998: criterion=mse (eq. 8)|map (eq. 9)|cross_entropy (with a softmax output in place of
    the radial-basis units), optimizer=lm|sgd, init=recommended|paper; scale=small and paper are the
    same.
    """
    chosen = parse(
        argument,
        net=("modern", "1998"),
        data=DATA,
        scale=("small", "paper", "smoke"),
        criterion=("mse", "map", "cross_entropy"),
        optimizer=("lm", "sgd"),
        init=("recommended", "paper"),
    )
    config = base()
    config.data.name = chosen["data"]
    config.data.size = 32
    if chosen["data"] == "synthetic":
        config.data.name = synthetic((28, 28, 1), 10)
    if chosen["net"] == "1998":
        _as_printed(config, chosen["criterion"], chosen["optimizer"], chosen["init"])
        config.batch_size = 1
    else:
        _modern(config, chosen["data"])
    if chosen["scale"] == "smoke":
        smoke(config, (28, 28, 1), 10)
        config.data.size = 32
    config.lock()
    return config


def _modern(config: ConfigDict, data: str) -> None:
    config.model = {"name": "lenet5_modern", "initializer": "paper", "dtype": "float32"}
    config.data.augment = ("pad_crop(pixels=2)",) if data == "digits" else ()
    config.data.normalize = ("scale()", "mean_sd()")
    config.batch_size = 64
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4}
    config.schedule = {"name": "cosine", "rate": 0.02, "warmup": "2 epochs"}
    config.duration = "60 epochs" if data == "digits" else "20 epochs"


def _as_printed(config: ConfigDict, criterion: str, optimizer: str, init: str) -> None:
    """Section III: 20 epochs, one image per update, the step sizes of eq. 21."""
    config.model = {
        "name": "lenet5_1998",
        "initializer": "paper" if init == "paper" else "lecun_sqrt_fan_in",
        "dtype": "float32",
    }
    config.data.normalize = ("lenet()",)
    if criterion == "cross_entropy":
        config.model.output = "softmax"
    else:
        del config.loss.label_smoothing
        config.loss.kind = f"rbf_{criterion}"
    if criterion == "map":
        config.loss.j = 1.0  # the paper gives no value
    if optimizer == "lm":
        config.optimizer = {
            "name": "levenberg_marquardt",
            "mu": 0.02,
            "patterns": 500,
            "weight_decay": 0.0,
        }
    else:
        config.optimizer = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    config.schedule = {
        "name": "piecewise",
        "rates": (5e-4, 2e-4, 1e-4, 5e-5, 1e-5),
        "changes": ("2 epochs", "5 epochs", "8 epochs", "12 epochs"),
    }
    config.duration = "20 epochs"


def sweep() -> Iterator[dict[str, object]]:
    """Five seeds."""
    for seed in range(5):
        yield {"seed": seed}
