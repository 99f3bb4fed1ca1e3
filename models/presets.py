"""What a named network is: its class, its fields, and what its paper prints about it.

Data only.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from models.network import Network


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named network: the fields that make the class the network of one paper.

    fields: overrides of the class's fields, `input` and `num_classes` included.
    source: paper, section or table that the fields come from.
    deviations: how it differs from its paper, a sentence each; empty if it does not.
    published: the network's size as its paper prints it, by what is counted, e.g.
        {"params": "60 million"}. Errors are not the network's: papers.results has them.
    recommended_initializer: what trains; "paper" where the paper's own does.
    """

    network: type[Network]
    fields: Mapping[str, Any]
    source: str
    deviations: tuple[str, ...] = ()
    published: Mapping[str, str] = dataclasses.field(default_factory=dict)
    recommended_initializer: str = "paper"
