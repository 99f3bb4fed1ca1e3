"""One file a figure or table of a paper; `STUDIES` has them by name."""

import difflib

from errors import UserError
from studies import degradation, lenet_1998, shortcuts, side_branches
from studies.study import Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (degradation, shortcuts, side_branches, lenet_1998)
}


def study(name: str) -> Study:
    """The study of that name. Raises UserError that lists the names."""
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"no study is called {name!r}; the studies: {', '.join(STUDIES)}{hint}")
    return STUDIES[name]
