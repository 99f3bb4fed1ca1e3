"""The hooks of mkdocs.yml: pages of reference, and files outside docs/ that its pages link to.

Links are written for people who read the files in the repository: `../results/LOG.md` from docs/.
In the site all files keep their places, except that the pages of docs/ are at the root.
"""

import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files

from reference import pages

HREF = re.compile(r'href="([^"#:]+)"')
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
OURS = ("docs/", "reference/")  # what is at the site's root, what is not a file


def on_files(found: Files, /, *, config: Any) -> Files:
    """Adds the pages of reference and every file outside docs/ that a page leads to."""
    for path, content in pages.pages().items():
        found.append(File.generated(config, path, content=content))
    waiting = [file for file in found.documentation_pages() if not file.src_uri.startswith(OURS)]
    while waiting:
        page = waiting.pop()
        for target in _outside(page.src_uri, page.content_string):
            if found.get_file_from_path(target) is None and (pages.ROOT / target).is_file():
                file = File.generated(config, target, abs_src_path=str(pages.ROOT / target))
                found.append(file)
                if file.is_documentation_page() or target.endswith(".html"):
                    waiting.append(file)
    return found


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """Turns the links of a page in docs/ to files outside it into links of the site."""
    if "/" in page.file.src_uri:
        return markdown
    return LINK.sub(lambda found: f"{found[1]}{found[2].removeprefix('../')}{found[3]}", markdown)


def _outside(page: str, content: str) -> list[str]:
    """What a page links to, as paths from the repository's root, if it is not in docs/."""
    folder = posixpath.dirname(page) if "/" in page else "docs"
    html = page.endswith(".html")
    links = HREF.findall(content) if html else [link for _, link, _ in LINK.findall(content)]
    targets = [posixpath.normpath(f"{folder}/{link}") for link in links]
    return [target for target in targets if not target.startswith((*OURS, ".."))]
