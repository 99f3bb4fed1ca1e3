"""AlexNet: Krizhevsky et al. 2012, and later networks of that name.

command   python train.py --config=configs/alexnet.py --workdir=runs/alexnet_digits
          python train.py --config=configs/alexnet.py:data=imagenet2012,scale=paper --workdir=...
hardware  digits: two CPU cores, minutes; imagenet2012 at paper scale: one GPU, days
paper     40.7% top-1 and 18.2% top-5 error on the ILSVRC-2012 validation set (Table 2), ten crops
here      digits, seed 0: 1.11% test and 0.00% training error after 20 epochs
deviates  paper: 10,000 training images are held out to decide when the rate drops, since the
          paper's validation set is the test set here; the mean image and the colour axes are
          computed from 10,000 images. Biases do not decay, as in cuda-convnet; the paper's rule
          has decay for every w. Crops of 227 pixels have 30 offsets a side in 256, where the
          printed 224 have 33.
          small: images of 99 pixels, a quarter of the width, He's initial weights, no dropout. With
          the paper's initialisation (standard deviation 0.01, biases of 1) training stalls, as
          Caffe's authors reported
"""

from ml_collections import ConfigDict

from configs.arguments import parse
from configs.base import IMAGE_SETS, base, colour_images, drop_on_plateau, smoke

NETS = (
    "alexnet_2012",
    "alexnet_2012_ungrouped",
    "alexnet_2012_one_gpu",
    "alexnet_owt_torchvision",
    "alexnet_owt_footnote_widths",
)
SMALL_SIZE = 99  # gives maps of 23, 11, 5 and 2 pixels


def get_config(argument: str | None = None) -> ConfigDict:
    """net=alexnet_2012|...,
    data=digits|fashion_mnist|fashion_mnist_scenes|cifar10|imagenette|imagenet2012|synthetic,
    scale=small|paper|smoke, init=paper|recommended (He's).
    """
    chosen = parse(
        argument,
        net=NETS,
        data=IMAGE_SETS,
        scale=("small", "paper", "smoke"),
        init=("auto", "paper", "recommended"),
    )
    data, scale = chosen["data"], chosen["scale"]
    small = scale == "small"
    full = 227 if chosen["net"].startswith("alexnet_2012") else 224
    init = chosen["init"] if chosen["init"] != "auto" else "recommended" if small else "paper"

    config = base()
    config.model = {
        "name": chosen["net"],
        "initializer": "he" if init == "recommended" else "paper",
        "width": 0.25 if small else 1.0,
        "dropout": 0.0 if small else 0.5,
        "dtype": "float32",
    }
    if init == "recommended":
        config.model.bias_one = 0.0
    colour_images(config, data, side=SMALL_SIZE if small else full, printed=full)
    config.optimizer = {"name": "caffe_sgd", "momentum": 0.9, "weight_decay": 5e-4}
    if small:
        config.batch_size = 64
        config.data.normalize = ("scale()", "mean_sd()")
        config.schedule = {"name": "cosine", "rate": 0.01, "warmup": "1 epochs"}
        config.duration = "20 epochs"
    else:
        config.data.augment = (
            "random_crop(side=256)",
            "flip()",
            "pca_colour(sd=0.1, samples=10000)",
        )
        config.data.normalize = ("per_pixel_mean(samples=10000)",)
        drop_on_plateau(config, rate=0.01)
        config.duration = "90 epochs"
        config.checkpoint.every = "1 epochs"
    if scale == "smoke":
        config.model.width = 0.125
        config.data.validation = 8
        smoke(config, (full, full, 3), 1000)
    config.lock()
    return config
