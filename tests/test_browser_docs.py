"""The docs site of `make docs` in a browser: no complaint, nothing from elsewhere, three uses."""

import functools
import http.server
import pathlib
import threading
import time
from collections.abc import Iterator

import pytest

from tests import browser
from tests.browser import Browser

SITE = pathlib.Path(__file__).parent.parent / "build" / "docs"

pytestmark = [
    pytest.mark.skipif(browser.found() is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` has not been run"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the site without a line for each request."""

    def log_message(self, format: str, *given: object) -> None:
        """Prints nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The site's address on this machine: search needs a server."""
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def page(address: str, tmp_path: pathlib.Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as started:
        yield started
        assert started.complaints == []
        asked = {one for one in started.requested if not one.startswith(("data:", "blob:"))}
        assert asked
        assert all(one.startswith(address) for one in asked), asked


def until(page: Browser, expression: str) -> None:
    end = time.monotonic() + 20
    while not page.eval(expression):
        assert time.monotonic() < end, expression
        page.settle()


def test_a_page_is_reached_by_the_menu(page: Browser, address: str) -> None:
    page.open(f"{address}/index.html", width=1280)
    page.eval("document.querySelector('.md-nav a[href$=\"tutorial.html\"]').click()")
    until(page, "document.querySelector('h1')?.textContent.includes('Tutorial')")


def test_words_are_found(page: Browser, address: str) -> None:
    page.open(f"{address}/index.html", width=1280)
    page.eval("document.querySelector('[data-md-component=search-query]').focus()")
    for key in "exit":
        page.press(key)
    until(page, "document.querySelectorAll('.md-search-result__link').length > 0")


def test_colours_are_switched(page: Browser, address: str) -> None:
    page.open(f"{address}/studies.html", width=1280)
    scheme = "document.body.getAttribute('data-md-color-scheme')"
    before = page.eval(scheme)
    page.eval("[...document.querySelectorAll('.md-header__button[for^=__palette]')]"
              ".find(one => one.offsetParent).click()")  # fmt: skip
    until(page, f"{scheme} !== '{before}'")


def test_a_telephone_needs_no_sideways_scrolling(page: Browser, address: str) -> None:
    page.open(f"{address}/tutorial.html", width=400)
    assert page.eval("document.documentElement.scrollWidth") <= 400
