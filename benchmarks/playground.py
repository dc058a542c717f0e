"""`python -m benchmarks.playground`: how fast the page at / paints, and whether it ever blocks, in Debian's chromium.

Each round opens the page anew in front of a service with the embedded model, without the browser's cache: the first and
the largest paint (the image and everything around it), and the time until the sample is described. Then it is used:
boxes, a polygon and a scribble are drawn, words and views pointed at, everything is found with masks, twenty more boxes
are added, and the samples are gone through. The browser reports tasks of the page's thread of 50 ms or more
(https://www.w3.org/TR/longtasks/): the longest of each step, 0 where there was none. Targets: the first paint under a
second, no task over 100 ms while the page is used. Times are of a wall clock: other work on the machine only makes them
longer.

Writes results/playground.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from dynrefer.service.playground import HERE
from dynrefer.workbench.profiling.machine import provenance
from tests.browser.conftest import FLAGS
from tests.browser.playground_page import Playground
from tests.service.server.test_process import Server, running

RESULT = Path(__file__).parent / "results" / "playground.json"
CHROMIUM = "/usr/bin/chromium"
FIRST_PAINT_MS, BLOCKED_MS = 1_000, 100  # the targets
WATCH = """() => {
    window.longTasks = [];
    new PerformanceObserver((list) => {
        for (const each of list.getEntries()) window.longTasks.push([each.startTime, each.duration]);
    }).observe({type: "longtask", buffered: true});
    window.largest = 0;
    new PerformanceObserver((list) => {
        for (const each of list.getEntries()) window.largest = each.startTime;
    }).observe({type: "largest-contentful-paint", buffered: true});
}"""
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"


def opened(browser: Browser, server: Server) -> tuple[dict[str, float], Playground]:
    """Open the page in a context of its own. Milliseconds since the navigation began."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.add_init_script(f"({WATCH})()")
    page.goto(server.address)
    playground = Playground(page)
    page.locator(".word").first.wait_for(timeout=60_000)
    described = page.evaluate("() => performance.now()")
    playground.settled()
    paint, largest = page.evaluate(FIRST_PAINT), page.evaluate("() => window.largest")
    return {"first_paint_ms": paint, "largest_paint_ms": largest, "described_ms": described}, playground


def longest(page: Page, since: float) -> float:
    """The longest task of the page's thread since then, 0 where none took 50 ms."""
    tasks = page.evaluate("() => window.longTasks")
    return max((duration for start, duration in tasks if start >= since), default=0.0)


def used(playground: Playground) -> dict[str, float]:
    """Go through what a user does. The longest task of each step in milliseconds."""
    page = playground.page

    def draw() -> None:
        playground.drag((0.1, 0.1), (0.2, 0.3), (0.3, 0.4))
        playground.drag((0.05, 0.6), (0.2, 0.9))
        playground.tool("Polygon")
        for place in ((0.1, 0.6), (0.3, 0.6), (0.3, 0.9), (0.1, 0.6)):
            playground.click(place)
        playground.tool("Scribble")
        playground.drag((0.6, 0.6), (0.7, 0.8), (0.8, 0.7), (0.9, 0.9))
        playground.tool("Box")

    def point() -> None:
        for each in (*page.locator(".word").all()[:6], *page.locator(".strip button").all()):
            each.hover()

    def find() -> None:
        page.get_by_role("button", name="Find and describe").click()

    def many() -> None:
        for index in range(20):
            x, y = 0.02 + 0.19 * (index % 5), 0.02 + 0.24 * (index // 5)
            playground.drag((x, y), (x + 0.16, y + 0.2))

    def samples() -> None:
        for button in page.locator(".samples button").all():
            button.click()
            playground.settled()

    found = {}
    for step in (draw, point, find, many, samples):
        since = page.evaluate("() => performance.now()")
        step()
        playground.settled()
        found[f"{step.__name__}_longest_task_ms"] = longest(page, since)
    return found


def bytes_served() -> dict[str, int]:
    """What the page loads before it can be used, compressed by gzip."""
    static = HERE / "static"
    return {
        name: len(gzip.compress((static / name).read_bytes(), 9))
        for name in ("playground.html", "playground.css", "playground.js")
    }


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description="Measure the page at /.")
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    options = parser.parse_args()
    rows: list[dict[str, float]] = []
    with running("dynrefer.service.cli", "serve") as server, sync_playwright() as playwright:
        server.await_ready()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for number in range(options.rounds + 1):
            times, playground = opened(browser, server)
            rows.append({**times, **used(playground)})
            print(number, {name: round(value) for name, value in rows[-1].items()}, flush=True)
            playground.page.context.close()
        version = browser.version
        browser.close()
    kept = rows[1:]  # the first round warms up
    median = {name: round(statistics.median(row[name] for row in kept), 1) for name in kept[0]}
    most = {name: round(max(row[name] for row in kept), 1) for name in kept[0]}
    blocked = max(value for name, value in most.items() if name.endswith("task_ms"))
    report: dict[str, Any] = {
        **provenance(),
        "chromium": version,
        "rounds": options.rounds,
        "compressed_bytes": bytes_served(),
        "median": median,
        "most": most,
        "targets": {
            f"first paint under {FIRST_PAINT_MS} ms": most["first_paint_ms"] < FIRST_PAINT_MS,
            f"no task over {BLOCKED_MS} ms while used": blocked <= BLOCKED_MS,
        },
    }
    print(json.dumps({name: report[name] for name in ("compressed_bytes", "median", "most", "targets")}, indent=1))
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
