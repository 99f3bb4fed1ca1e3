"""The pages in a browser: no complaint, nothing fetched, used by pointer and by keyboard."""

import json
import pathlib
import re
from collections.abc import Iterator

import pytest

from tests import browser
from tests.browser import Browser
from webpages import curves, document

RESULTS = pathlib.Path(__file__).parent.parent / "results" / "index.html"
DEGRADATION = "#degradation-digits"

pytestmark = pytest.mark.skipif(browser.found() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def page(opened: Browser) -> Iterator[Browser]:
    """The browser; after the test, nothing may have been complained of or fetched."""
    opened.complaints.clear()
    opened.requested.clear()
    yield opened
    assert opened.complaints == []
    fetched = {address for address in opened.requested if not address.startswith("data:")}
    assert len(fetched) == 1, fetched


def shown(page: Browser, part: str) -> list[float]:
    """The ends of the step axis that a panel shows."""
    return page.eval(
        f"(({{from, to}}) => [+from, +to])(document.querySelector('{part} .plot').dataset)"
    )


def drawn(page: Browser, part: str) -> int:
    """The number of curves in a panel."""
    return int(page.eval(f"document.querySelector('{part} .plot').dataset.curves"))


def test_claims_are_filtered_by_verdict_paper_and_words(page: Browser) -> None:
    page.open(RESULTS, width=1280)
    html = RESULTS.read_text()
    every = re.findall(r'data-verdict="([^"]+)" data-paper="([^"]+)"', html)
    visible = (
        "[...document.querySelectorAll('.claims tbody tr')].filter(r => r.offsetParent).length"
    )
    assert page.eval(visible) == len(every) > 0
    page.eval("document.querySelector('.filtered select[name=verdict]').focus()")
    page.press("c")
    contradicted = [paper for verdict, paper in every if verdict == "contradicted"]
    assert page.eval(visible) == len(contradicted) > 0
    page.press("Tab")
    page.press("H")
    first = sorted(paper for _, paper in set(every) if paper.startswith("H"))[0]
    assert page.eval("document.activeElement.value") == first
    count = contradicted.count(first)
    assert page.eval(visible) == count
    assert page.eval("document.querySelector('.count').textContent") == f"{count} of {len(every)}"
    page.eval("document.querySelector('.filtered input').focus()")
    page.press("~")
    assert page.eval(visible) == 0


def test_curves_are_zoomed_by_keys_buttons_and_pointer(page: Browser) -> None:
    page.open(RESULTS, width=1280)
    first, last = shown(page, DEGRADATION)
    page.eval(f"document.querySelector('{DEGRADATION} .plot').focus()")
    quarter = (last - first) / 4
    page.press("+")
    assert shown(page, DEGRADATION) == pytest.approx([first + quarter, last - quarter])
    page.press("ArrowRight")
    assert shown(page, DEGRADATION) == pytest.approx([first + 1.5 * quarter, last - quarter / 2])
    page.press("ArrowRight")
    page.press("ArrowRight")  # the end of the curves is the end of the axis
    assert shown(page, DEGRADATION) == pytest.approx([first + 2 * quarter, last])
    page.press("0")
    assert shown(page, DEGRADATION) == [first, last]
    page.click(f"{DEGRADATION} [data-zoom=in]")
    page.click(f"{DEGRADATION} [data-zoom=out]")
    assert shown(page, DEGRADATION) == [first, last]
    x, y = page.middle(f"{DEGRADATION} .plot .u-over")
    page.drag((x - 100, y), (x + 100, y))
    low, high = shown(page, DEGRADATION)
    width = page.eval(f"document.querySelector('{DEGRADATION} .u-over').clientWidth")
    assert high - low == pytest.approx(200 / width * (last - first), rel=0.02)
    assert (low + high) / 2 == pytest.approx((first + last) / 2, rel=0.02)


def test_runs_and_seeds_are_switched_and_the_scale_is_chosen(page: Browser) -> None:
    page.open(RESULTS, width=1280)
    labels = page.eval(f"document.querySelectorAll('{DEGRADATION} input.label').length")
    seeds = page.eval(f"document.querySelectorAll('{DEGRADATION} input.seed').length")
    assert drawn(page, DEGRADATION) == labels  # means over seeds, of the test errors
    page.click(f"{DEGRADATION} .run")
    assert drawn(page, DEGRADATION) == labels - 1
    page.click(f"{DEGRADATION} input.part[value=train]")
    assert drawn(page, DEGRADATION) == 2 * (labels - 1)
    page.eval(f"document.querySelector('{DEGRADATION} select.drawn').focus()")
    page.press("e")  # each seed
    assert drawn(page, DEGRADATION) == 2 * (labels - 1) * seeds
    page.click(f"{DEGRADATION} input.seed[value='1']")
    assert drawn(page, DEGRADATION) == 2 * (labels - 1) * (seeds - 1)
    canvas = f"document.querySelector('{DEGRADATION} canvas').toDataURL()"
    before = page.eval(canvas)
    page.click(f"{DEGRADATION} .log-y")
    page.click(f"{DEGRADATION} .log-x")
    assert page.eval(canvas) != before
    page.eval(f"document.querySelector('{DEGRADATION} select.metric').focus()")
    page.press("l")  # loss, then learning rate, which is no part's
    page.press("l")
    assert page.eval("document.activeElement.value") == "learning rate"
    assert drawn(page, DEGRADATION) == (labels - 1) * (seeds - 1)
    page.click(f"{DEGRADATION} [data-all='']")
    assert drawn(page, DEGRADATION) == 0
    said = page.eval(f"document.querySelector('{DEGRADATION} .readout').textContent")
    assert "No curve is switched on." in said
    page.click(f"{DEGRADATION} [data-all='1']")
    assert drawn(page, DEGRADATION) == labels * (seeds - 1)


def test_a_number_and_a_curve_lead_to_command_config_commit_and_log(page: Browser) -> None:
    page.open(RESULTS, width=1280)
    x, y = page.middle(f"{DEGRADATION} .plot .u-over")
    for height in range(-150, 160, 5):
        page.mouse("mouseMoved", x, y + height)
    page.settle()
    for height in range(-150, 160, 5):
        page.mouse("mouseMoved", x, y + height)
        page.settle()
        link = f"document.querySelector('{DEGRADATION} .readout a')"
        if page.eval(f"{link} !== null"):
            break
    assert page.eval(f"{link}.hash").startswith(DEGRADATION)
    said = page.eval(f"document.querySelector('{DEGRADATION} .readout').textContent")
    assert re.search(r", mean of \d seeds, test: [\d.]+% at step \d+$", said)
    row = f"{DEGRADATION} .numbers tr[data-trace]"
    page.click(f"{row} td:nth-of-type(2)")
    name = page.eval(f"document.querySelector('{row}').dataset.trace")
    assert page.eval("location.hash") == f"#{name}"
    target = f"document.getElementById('{name}')"
    assert page.eval(f"{target}.checkVisibility()")
    whole = f"{target}.closest('details').textContent"
    assert "python train.py --config=" in page.eval(whole)
    assert '"schedule"' in page.eval(whole)
    log = page.eval(f"{target}.querySelector('a').getAttribute('href')")
    commit = json.loads((RESULTS.parent / log).read_text().splitlines()[0])["environment"]["commit"]
    assert commit[:12] in page.eval(f"{target}.textContent")


def test_on_a_telephone_nothing_is_wider_than_the_window(page: Browser) -> None:
    page.open(RESULTS, width=400)
    assert page.eval("document.scrollingElement.scrollWidth") == 400
    first, last = shown(page, DEGRADATION)
    page.click(f"{DEGRADATION} [data-zoom=in]")
    assert shown(page, DEGRADATION) == pytest.approx(
        [(3 * first + last) / 4, (first + 3 * last) / 4]
    )
    sizes = page.eval("[...document.querySelectorAll('button')].map(b => b.offsetHeight)")
    assert min(sizes) >= 24  # WCAG 2.2, 2.5.8: the least size of a target


def test_without_scripts_there_are_pictures_tables_and_sources(page: Browser) -> None:
    page.open(RESULTS, width=1280, scripts=False)
    pictures = "[...document.images].every(i => i.complete && i.naturalWidth > 500)"
    assert page.eval(f"document.images.length > 3 && {pictures}")
    hidden = "[...document.querySelectorAll('.panel, .controls')].every(p => !p.offsetParent)"
    assert page.eval(hidden)
    assert page.eval("document.querySelectorAll('.claims tbody tr').length") > 10
    page.click(f"{DEGRADATION} .numbers tbody a")
    name = page.eval("location.hash.slice(1)")
    assert page.eval(f"document.getElementById('{name}').checkVisibility()")


def test_in_print_there_are_no_controls(page: Browser) -> None:
    page.open(RESULTS, width=1280)
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.eval(
            "[...document.querySelectorAll('.panel, .controls')].every(p => !p.offsetParent)"
        )
        assert page.eval("[...document.images].every(i => i.offsetWidth > 300)")
    finally:
        page.call("Emulation.setEmulatedMedia", media="")


def test_a_run_with_one_point_or_zeros_is_drawn(page: Browser, tmp_path: pathlib.Path) -> None:
    zeros = [{"step": step, "epoch": step / 2, "test": {"error": 0.0}} for step in (2, 4)]
    runs = [curves.Run("one", 0, zeros[:1], "a"), curves.Run("zeros", 1, zeros, "b")]
    path = tmp_path / "page.html"
    path.write_text(document.page("Few", curves.panel(runs, "few")))
    page.open(path, width=400)
    assert drawn(page, ".panel") == 2
    page.click(".log-y")
    said = page.eval("document.querySelector('.readout').textContent")
    assert said.startswith("3 values of 0 cannot be shown on a log scale.")
    page.click(".log-y")
    assert drawn(page, ".panel") == 2
