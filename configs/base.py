"""The fields that every experiment has, with units and defaults; a config file sets its own values.

Some part of the code must read every field here (a test checks this). Durations are strings:
"N steps", "N epochs" or "N examples".
"""

from ml_collections import ConfigDict

# The data sets that the ImageNet networks train on, at full size or small.
IMAGE_SETS = (
    "digits",
    "fashion_mnist",
    "fashion_mnist_scenes",
    "cifar10",
    "imagenette",
    "imagenet2012",
    "synthetic",
)


def base() -> ConfigDict:
    """A config of all shared fields. `model`, `optimizer` and `schedule` take further fields.

    The data set determines the network's input shape and number of classes.
    """
    return ConfigDict(
        {
            "seed": 0,  # of all randomness: weights, order, augmentation, dropout
            "duration": "10 epochs",  # of training
            "batch_size": 128,  # images per step, over all devices
            "parallel": "jit",  # over a mesh of all devices, or "pmap"
            # At most so many updates in one call of the device. For small networks on accelerators,
            # with resident data; on CPU it only takes longer to compile. The bits are those of 1;
            # rows, evaluations and checkpoints come when they are due.
            "steps_per_dispatch": 1,
            "gradient_accumulation": 1,  # parts of a batch whose gradients are summed
            "init": {
                "from": "",  # workdir of the run whose weights this one starts from; "": the seed
                "step": "last",  # of that run; or "best" by validation, or a number
                "skip": (),  # shell patterns of parameters that start anew, as ("fc8/*",)
                "statistics": False,  # normalise by that run's statistics, not by those of `data`
            },
            "model": {"name": ""},  # one of models.NETWORKS, and any field of that network
            "data": {
                "name": "digits",  # one of data.DATASETS, folder:PATH or synthetic:HxWxC:CLASSES
                "size": 0,  # height and width that images are resized to; 0: as stored
                "short_side": 0,  # of test images before the centre crop; 0: the data set's rule
                "channels": 0,  # 3 repeats grey, 1 averages colour; 0: as stored
                "validation": 0,  # images held out from the end of the training set
                "train_images": 0,  # train on the first so many; 0: all that are not held out
                "labels_a_class": 0,  # then so many of each class, drawn by the seed; 0: all
                "augment": (),  # operations on training images, in order: ("flip()",)
                "normalize": ("scale()",),  # operations on all images, after `augment`
                "engine": "auto",  # resident, streaming, or auto: chosen by the data set
                "workers": 0,  # decoding processes of the streaming engine; changes no batch
                "on_damage": "stop",  # or "skip": count unreadable images and continue
            },
            "loss": {
                "kind": "cross_entropy",  # or rbf_mse, rbf_map
                "label_smoothing": 0.0,  # weight of the uniform distribution; cross_entropy only
                "weights": {"main": 1.0},  # by head: "main", or the network's name of a side head
            },
            "optimizer": {"name": "sgd"},  # one of training.optimizers.OPTIMIZERS, and its fields
            "schedule": {"name": "constant"},  # one of training.schedules.SCHEDULES, and its fields
            "parameters": {  # (shell pattern of a name like "conv1/kernel", factor): first match
                "rates": (),  # factors on the learning rate; 1 if none matches, 0 or None freezes
                "decay": (("*kernel", 1.0),),  # factors on the weight decay; 0 if none matches
                "clip_norm": 0.0,  # maximum L2 norm of the whole gradient; 0: no clipping
            },
            "averaging": {"name": "none"},  # one of weight_averaging.AVERAGINGS, and its fields
            "bn_recompute_batches": 0,  # to recompute the final running statistics on; 0: keep them
            "log_every": "1 epochs",  # a row of training metrics: means since the previous row
            "eval": {
                "every": "1 epochs",  # validation and test error; also after the last step
                "batch_size": 512,  # images at a time; does not change the results
                "heads": (),  # side heads whose errors are also reported
            },
            "checkpoint": {
                "every": "10 epochs",  # also after the last step
                "keep": 2,  # newest checkpoints; the best by validation error is also kept
            },
            "alarms": {
                "stuck_after": "500 steps",  # warn if the loss is still ln(classes); "": never
            },
        }
    )


def synthetic(shape: tuple[int, int, int], classes: int, train: int = 256, test: int = 64) -> str:
    """The name of a generated data set."""
    return f"synthetic:{'x'.join(map(str, shape))}:{classes}:{train}:{test}"


def colour_images(config: ConfigDict, data: str, *, side: int, printed: int) -> None:
    """Sets the data to one of IMAGE_SETS, in colour, resized to `side` pixels.

    printed: side of the generated images of "synthetic".
    """
    config.data.name = synthetic((printed, printed, 3), 1000) if data == "synthetic" else data
    config.data.size = side
    config.data.channels = 3


def smoke(config: ConfigDict, shape: tuple[int, int, int], classes: int) -> None:
    """Reduces a config to four steps of eight generated images, to see that it runs.

    shape: of the generated images, as the paper's network expects them.
    """
    config.data.name = synthetic(shape, classes, 32, 8)
    config.data.size = config.data.channels = 0
    config.batch_size = config.eval.batch_size = 8
    config.duration = "4 steps"
    if config.schedule.get("warmup"):
        config.schedule.warmup = "1 steps"  # must be shorter than the run
    config.log_every = config.eval.every = config.checkpoint.every = "2 steps"


def drop_at(config: ConfigDict, rate: float, drops: tuple[str, ...]) -> None:
    """Divides the rate by ten at each of the durations `drops`; no warm-up."""
    config.schedule = {
        "name": "steps",
        "rate": rate,
        "drops": drops,
        "factor": 10.0,
        "warmup": "",
        "warmup_rate": 0.0,
    }


def drop_on_plateau(config: ConfigDict, rate: float) -> None:
    """Divides the rate by ten when the validation error stops falling, three times.

    The papers judged by eye on their validation set, which is our test set. Here the validation
    images are held out of training. Our criterion: no improvement in five evaluations.
    """
    config.schedule = {
        "name": "plateau",
        "rate": rate,
        "factor": 10.0,
        "of": "validation",
        "patience": 5,
        "least": 0.001,
        "drops": 3,
    }
    config.data.validation = 64 if config.data.name.startswith("synthetic") else 10_000
