"""A real browser for pages: Debian's chromium by its DevTools port."""

from __future__ import annotations

import base64
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

#: Seconds that a page may take.
_PATIENCE = 30


def missing() -> str:
    """The missing part of a browser for tests; "" if nothing is."""
    if shutil.which("chromium") is None:
        return "chromium is not installed"
    for package in ("websocket", "axe_playwright_python", "pypdfium2"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    return ""


def need() -> None:
    """Skip the test without a browser; with CI=true its lack is an error."""
    reason = missing()
    if reason:
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)


def axe() -> str:
    """The script of axe-core, of a package that has it for offline use."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None
    assert found.submodule_search_locations is not None
    (script,) = Path(next(iter(found.submodule_search_locations))).rglob("axe.min.js")
    return script.read_text()


class Browser:
    """One page of a browser, and what it said and asked for."""

    def __init__(self, address: str) -> None:
        import websocket

        self._socket = websocket.create_connection(address, timeout=_PATIENCE, suppress_origin=True)
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._loaded = False
        for domain in ("Page", "Runtime", "Network", "Log", "Security"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Close the connection to the browser."""
        self._socket.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the DevTools protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            found = json.loads(self._socket.recv())
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                result: dict[str, Any] = found["result"]
                return result
            self._note(found)

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(f"console: {parameters['type']} {[one.get('value') for one in parameters['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.messages.append(f"exception: {parameters['exceptionDetails']['text']}")
        elif method == "Log.entryAdded":
            self.messages.append(f"log: {parameters['entry']['text']}")
        elif method == "Page.javascriptDialogOpening":
            self.messages.append(f"dialogue: {parameters['message']}")
            self._socket.send(
                json.dumps({"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}})
            )
        elif method == "Page.loadEventFired":
            self._loaded = True

    def open(self, path: Path, *, width: int = 1440, dark: bool = False, script: bool = True) -> None:
        """Load a file in a window of this width."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.requests, self.messages, self._loaded = [], [], False
        self.call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._note(json.loads(self._socket.recv()))

    def ask(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def violations(self) -> list[str]:
        """Violations that axe-core finds, with the elements."""
        self.ask(f"{axe()}; true")
        found = self.ask("axe.run().then((all) => all.violations.map((one) => [one.id, one.nodes.map((n) => n.html)]))")
        return [f"{rule}: {nodes[:3]}" for rule, nodes in found]

    def pdf(self) -> bytes:
        """The page as printed to A4."""
        found = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)
        return base64.b64decode(found["data"])

    def picture(self, path: Path) -> None:
        """Save the whole page as a picture."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def running(profile: Path) -> Iterator[Browser]:
    """A browser with one page, without a window."""
    port_file = profile / "DevToolsActivePort"
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    with subprocess.Popen(
        [*command, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + _PATIENCE
            while not (port_file.exists() and port_file.read_text().count("\n")):
                assert time.monotonic() < until, "chromium does not start"
                time.sleep(0.05)
            port = port_file.read_text().splitlines()[0]
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_PATIENCE) as answer:
                pages = [one for one in json.load(answer) if one["type"] == "page"]
            opened = Browser(pages[0]["webSocketDebuggerUrl"])
            try:
                yield opened
            finally:
                opened.close()
        finally:
            process.terminate()
