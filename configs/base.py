"""The fields that every experiment has, with their units; a config file fills in its own values.

A field is here only if some part of the code reads it (a test shows it). Durations are strings:
"N steps", "N epochs" or "N examples".
"""

from ml_collections import ConfigDict

# The sets that the nets of ImageNet train on, at their own size or small.
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

    What the network's input and number of classes are is decided by the data, nowhere else.
    """
    return ConfigDict(
        {
            "seed": 0,  # of everything: weights, order, augmentation, dropout
            "duration": "10 epochs",  # of training
            "batch_size": 128,  # images a step, over all devices
            "parallel": "jit",  # over a mesh of all devices, or "pmap"
            "gradient_accumulation": 1,  # parts of a batch, whose gradients are summed
            "model": {"name": ""},  # of models.NETWORKS, and any field of that network
            "data": {
                "name": "digits",  # of data.DATASETS, or folder:PATH, synthetic:HxWxC:CLASSES
                "size": 0,  # pixels a side that images are resized to; 0: as stored
                "short_side": 0,  # pixels that tests cut the centre out of; 0: the set's own way
                "channels": 0,  # 3 repeats grey, 1 averages colour; 0: as stored
                "validation": 0,  # images cut from the end of training; 0: none
                "train_images": 0,  # from the beginning, to train on; 0: all that are left
                "augment": (),  # operations on training images, in order: ("flip()",)
                "normalize": ("scale()",),  # operations on all images, after the others
                "engine": "auto",  # resident, streaming, or what suits the data set
                "workers": 0,  # decoding processes of the streaming engine; changes no batch
                "on_damage": "stop",  # or "skip": count unreadable images and continue
            },
            "loss": {
                "kind": "cross_entropy",  # or rbf_mse, rbf_map
                "label_smoothing": 0.0,  # share of the uniform distribution; cross_entropy only
                "weights": {"main": 1.0},  # by head; a side head is named as the network names it
            },
            "optimizer": {"name": "sgd"},  # of training.optimizers.OPTIMIZERS, and its fields
            "schedule": {"name": "constant"},  # of training.schedules.SCHEDULES, and its fields
            "parameters": {  # by name ("conv1/kernel"): pairs (shell pattern, factor), first match
                "rates": (),  # factors on the learning rate; 1 if none matches
                "decay": (("*kernel", 1.0),),  # on the weight decay; 0 if none matches
                "clip_norm": 0.0,  # greatest L2 norm of the whole gradient; 0: as it is
            },
            "averaging": {"name": "none"},  # of weight_averaging.AVERAGINGS, and its fields
            "bn_recompute_batches": 0,  # to recompute the final running statistics on; 0: keep them
            "log_every": "1 epochs",  # a row of training metrics, means since the row before
            "eval": {
                "every": "1 epochs",  # validation and test error; always after the last step too
                "batch_size": 512,  # images at a time; changes no number
                "heads": (),  # side heads whose errors are reported too
            },
            "checkpoint": {
                "every": "10 epochs",  # always after the last step too
                "keep": 2,  # newest ones; the best by validation is kept too
            },
            "alarms": {
                "stuck_after": "500 steps",  # a loss still at ln(classes) is an alarm; "": never
            },
        }
    )


def synthetic(shape: tuple[int, int, int], classes: int, train: int = 256, test: int = 64) -> str:
    """The name of a generated data set."""
    return f"synthetic:{'x'.join(map(str, shape))}:{classes}:{train}:{test}"


def colour_images(config: ConfigDict, data: str, *, side: int, printed: int) -> None:
    """Images of a set of IMAGE_SETS in colour, `side` pixels a side; synthetic: `printed`."""
    config.data.name = synthetic((printed, printed, 3), 1000) if data == "synthetic" else data
    config.data.size = side
    config.data.channels = 3


def smoke(config: ConfigDict, shape: tuple[int, int, int], classes: int) -> None:
    """Cuts a config down to four steps of eight generated images: does it run at all?

    shape: of the images that the paper's network is for.
    """
    config.data.name = synthetic(shape, classes, 32, 8)
    config.data.size = config.data.channels = 0
    config.batch_size = config.eval.batch_size = 8
    config.duration = "4 steps"
    if config.schedule.get("warmup"):
        config.schedule.warmup = "1 steps"  # never longer than the run
    config.log_every = config.eval.every = config.checkpoint.every = "2 steps"


def drop_at(config: ConfigDict, rate: float, drops: tuple[str, ...]) -> None:
    """The rate drops to a tenth at each of the durations `drops`; no warm-up."""
    config.schedule = {
        "name": "steps",
        "rate": rate,
        "drops": drops,
        "factor": 10.0,
        "warmup": "",
        "warmup_rate": 0.0,
    }


def drop_on_plateau(config: ConfigDict, rate: float) -> None:
    """The rate drops to a tenth when the validation error stops falling, three times.

    The papers judged by eye on their validation set, which is our test set; here images are held
    out of training to see it, and what counts as stopped is ours: five evaluations.
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
