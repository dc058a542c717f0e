"""docs/images/integrations/label-studio.png: a screenshot of the real Label Studio with what a real service predicts.

python -m tests.service.integrations.label_studio.picture [FILE]
"""

import socket
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.repository import ROOT
from tests.service.integrations.label_studio.program import PASSWORD, USER, LabelStudioProgram, label_studio
from tests.service.server.test_process import running

PICTURE = ROOT / "docs" / "images" / "integrations" / "label-studio.png"
SCENE = ROOT / "docs" / "images" / "scene.png"
COLOURS = 128  # of the file
# That of docs/integrations/label-studio.md.
CONFIG = """<View style="display: flex">
  <View style="flex: 0 0 380px; padding-right: 1em"><Image name="image" value="$image" defaultZoom="fit"/></View>
  <View>
    <RectangleLabels name="label" toName="image"><Label value="pig"/><Label value="snowman"/></RectangleLabels>
    <Header value="What is it like?"/>
    <TextArea name="caption" toName="image" perRegion="true" editable="true" rows="2"/>
    <Choices name="kind" toName="image" perRegion="true" showInline="true">
      <Choice value="animal"/><Choice value="figure"/><Choice value="drink"/>
    </Choices>
  </View>
</View>"""


def main() -> None:
    """Run both, retrieve predictions, and look."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, label_studio(Path(folder), port) as program:
        settings = {"DYNREFER_LABEL_STUDIO_URL": program.url, "DYNREFER_LABEL_STUDIO_TOKEN": program.token}
        with running("dynrefer.service.cli", "serve", "--integrations", "label-studio", **settings) as service:
            service.await_ready()
            project, (task,) = program.project(CONFIG, {"scene.png": SCENE.read_bytes()})
            backend = program.add_backend(project, f"{service.address}/label-studio")
            program.retrieve_predictions(project, [task])
            program.patch(f"/api/projects/{project}", {"model_version": backend["title"]})
            for prediction in program.predictions(task):
                print(prediction)
            look(program, project, task, Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)


def look(program: LabelStudioProgram, project: int, task: int, picture: Path) -> None:
    """The task in Label Studio's page, with its first region selected."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1360, "height": 640})
        page.goto(f"{program.url}/user/login/")
        page.fill("#email", USER)
        page.fill("#password", PASSWORD)
        page.click("button[type=submit]")
        page.goto(f"{program.url}/projects/{project}/data?task={task}")
        show(page)
        page.screenshot(path=picture)
        browser.close()
    with Image.open(picture) as shot:
        small = shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)


def show(page: Page) -> None:
    """Wait for the regions, and select one."""
    page.wait_for_selector(".lsf-outliner-item", timeout=120_000)
    time.sleep(5)  # the image's canvas is drawn
    page.locator(".lsf-outliner-item").first.click()
    time.sleep(1)
    page.mouse.move(400, 300)
    page.mouse.wheel(0, -2_000)  # selecting the region has scrolled to it
    time.sleep(1)


if __name__ == "__main__":
    main()
