"""Chromium without a window, spoken to over two pipes: opens a page, uses it, takes pictures.

The messages are Chrome's DevTools protocol, JSON that ends in a zero byte, on the file descriptors
3 and 4 of the browser (--remote-debugging-pipe), so no port is opened and no package is needed.
"""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60  # seconds
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Enter": 13, " ": 32, "+": 187, "-": 189}
# Gives the browser its two pipes, after copies out of the way: one may have the other's number.
JOIN = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def found() -> str | None:
    """The path of a Chromium or Chrome; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A page in a browser. complaints: errors of the console and of the page's scripts.

    requested: the addresses of everything the page asked for, itself included.
    """

    def __init__(self, profile: pathlib.Path) -> None:
        program = found()
        assert program, "no browser is installed"
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", JOIN),
                *(str(to_browser), str(from_browser), program),
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-extensions",
                "--no-first-run",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
            ],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._pending, self._number = b"", 0
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self._loaded, self._scripts = False, True
        self._session: str | None = None

    def __enter__(self) -> "Browser":
        try:
            self._attach()
        except BaseException:
            self._end()
            raise
        return self

    def _attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(PATIENCE)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()  # it must not stay, however it is
            self._process.wait()
        finally:
            os.close(self._write)
            os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        packed = json.dumps(message).encode() + b"\0"
        while packed:
            packed = packed[os.write(self._write, packed) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, f"the browser has said nothing for {PATIENCE} s"
            read = os.read(self._read, 1 << 20)
            assert read, "the browser has ended"
            self._pending += read
        packed, _, self._pending = self._pending.partition(b"\0")
        answer = json.loads(packed)
        self._note(answer.get("method", ""), answer.get("params", {}))
        return answer

    def _note(self, method: str, given: Mapping[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", "")
            self.complaints.append(f"{details['text']} {thrown}")
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.complaints.append(given["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
            self.complaints.append(str(given["args"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(given["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True

    def open(self, place: pathlib.Path | str, *, width: int, scripts: bool = True) -> None:
        """Opens a file or an address in a window of this width; waits until it is laid out."""
        self._scripts = scripts
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._loaded = False
        address = place if isinstance(place, str) else place.resolve().as_uri()
        self.call("Page.navigate", url=address)
        while not self._loaded:
            self._next()
        self.settle()

    def settle(self) -> None:
        """Waits until the browser has drawn what it was asked to draw."""
        if self._scripts:
            self.eval("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        else:
            self.call("Page.captureScreenshot")  # which waits for a drawn frame

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        got = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def press(self, key: str) -> None:
        """Presses a key on what has the focus."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=KEYS.get(key) or ord(key.upper()),
                **({"text": text} if text and kind == "keyDown" else {}),
            )
        self.settle()

    def click(self, selector: str) -> None:
        """Clicks in the middle of the first element that a CSS selector finds."""
        x, y = self.middle(selector)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Moves the pointer over the page with its button down."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start)
        self.mouse("mouseMoved", (start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.mouse("mouseMoved", *end)
        self.mouse("mouseReleased", *end)
        self.settle()

    def mouse(self, kind: str, x: float, y: float) -> None:
        """One event of the mouse at a point of the window."""
        held = {} if kind == "mouseMoved" else {"clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", **held)

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of an element, after it was moved into the window."""
        box = self.eval(
            f"(() => {{const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        return box[0], box[1]

    def picture(self, path: pathlib.Path, *, whole: bool = False) -> None:
        """Saves what the window shows, or the whole page, as PNG."""
        got = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(got["data"]))
