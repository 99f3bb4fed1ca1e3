"""The data that defines a named network."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from models.network import Network


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named network: a class and the values of its fields.

    fields: values of the class's fields, including `input` and `num_classes`.
    source: paper, section or table that the fields come from.
    deviations: how it differs from its paper, one sentence each; empty if it does not.
    published: the network's size as its paper prints it, by what is counted, e.g.
        {"params": "60 million"}. Published errors are in papers.results.
    recommended_initializer: one that trains well; "paper" if the paper's does.
    """

    network: type[Network]
    fields: Mapping[str, Any]
    source: str
    deviations: tuple[str, ...] = ()
    published: Mapping[str, str] = dataclasses.field(default_factory=dict)
    recommended_initializer: str = "paper"
