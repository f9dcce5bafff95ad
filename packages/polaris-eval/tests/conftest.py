"""A Chromium that opens pages as a person would, driven through its own pipe."""

import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe"
).split()
DEADLINE_S = 60
HELPERS = """
const all = (selector) => [...document.querySelectorAll(selector)];
const texts = (selector) => all(selector).map((each) => each.textContent);
const until = async (holds) => {
  for (let tries = 0; !holds(); tries += 1) {
    if (tries > 1000) throw new Error(`never: ${holds}`);
    await new Promise((done) => setTimeout(done, 20));
  }
};
await until(() => document.readyState === "complete");
"""

Visit = Callable[..., Any]


class Chromium:
    """Speaks the DevTools protocol: messages in JSON, each ended by a zero byte, in at 3 and out at 4."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self.ours_out = os.pipe()
        self.ours_in, theirs_out = os.pipe()
        plumbing = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", plumbing, str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.received = b""
        self.events: list[dict[str, Any]] = []
        self.count = 0

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self.ours_out, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def receive(self) -> dict[str, Any]:
        while b"\0" not in self.received:
            assert select.select([self.ours_in], [], [], DEADLINE_S)[0], "Chromium says nothing"
            chunk = os.read(self.ours_in, 1 << 20)
            assert chunk, "Chromium is gone"
            self.received += chunk
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def visit(self, page: Path, script: str, *, fragment: str = "", width: int = 1280) -> Any:
        """Open a page from disk, do what the body of an async function says, and return what it returns.

        A message on the page's console fails the test, as does anything that is loaded but the page itself.
        """
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events.clear()
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.ask(f"{domain}.enable", session)
        screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        self.ask("Emulation.setDeviceMetricsOverride", session, **screen)
        self.ask("Page.navigate", session, url=page.as_uri() + fragment)
        expression = f"(async () => {{ {HELPERS}\n{script} }})()"
        said = self.ask("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
        self.ask("Target.closeTarget", targetId=target)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        unwanted = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        assert not [event for event in self.events if event.get("method") in unwanted]
        requests = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in requests]
        assert [each for each in addresses if not each.startswith("data:")] == [page.as_uri()]
        return said["result"].get("value")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium to open a page in")
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.ask("Browser.close")
    browser.process.wait(DEADLINE_S)


@pytest.fixture
def visit(chromium: Chromium) -> Visit:
    return chromium.visit
