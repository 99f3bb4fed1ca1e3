"""One file per figure or table of a paper: its runs, claims and panels; `STUDIES` by name.

May import configs, data, errors, inspection, models, papers, protocols, reproduction, sharding,
training.
"""

from errors import UserError, did_you_mean
from reproduction.study import Study
from studies import (
    alexnet_parts,
    augmentation,
    degradation,
    depth_1x1,
    ensembles,
    gradients,
    identity,
    inception_cost,
    lenet5_modern,
    lenet_1998,
    lenet_steps,
    mixed_precision,
    nin_head,
    preactivation,
    relu_vs_tanh,
    shortcuts,
    side_branches,
    transfer,
    two_gpus,
    vgg_depth,
)

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        lenet5_modern,
        degradation,
        shortcuts,
        preactivation,
        gradients,
        identity,
        relu_vs_tanh,
        alexnet_parts,
        two_gpus,
        augmentation,
        vgg_depth,
        nin_head,
        inception_cost,
        side_branches,
        ensembles,
        lenet_1998,
        lenet_steps,
        depth_1x1,
        mixed_precision,
        transfer,
    )
}


def study(name: str) -> Study:
    """The study called `name`. Raises UserError if there is none."""
    if name not in STUDIES:
        raise UserError(
            f"no study is called {name!r}; the studies are {', '.join(STUDIES)}"
            f"{did_you_mean(name, STUDIES)}"
        )
    return STUDIES[name]
