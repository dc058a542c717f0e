"""Draws what a CVAT task holds after the job has described its shapes, for docs/integrations/cvat.md.

    python -m tests.service.integrations.cvat.draw_task SERVICE PICTURE

SERVICE: the address of a running service. The server of CVAT is the tests' fake, so that there is no window to show.
"""

import os
import subprocess
import sys

from PIL import Image

from dynrefer.model.drawing import Annotation, draw_regions
from tests.repository import ROOT
from tests.service.integrations.cvat.fake_server import TASK, TOKEN, FakeCvat, label, serving, shape, text_attribute
from tests.service.integrations.environments import python_with

IMAGE = ROOT / "benchmarks" / "photographs" / "tourist.jpg"
BOXES = ([308.0, 190.0, 401.0, 258.0], [75.0, 90.0, 640.0, 427.0], [203.0, 262.0, 256.0, 330.0])
LABELS = [label(1, "thing", text_attribute(11, "caption"), text_attribute(12, "category"))]


def main(service: str, picture: str) -> None:
    """Describe, and draw the task's shapes with their attributes."""
    fake = FakeCvat([IMAGE], LABELS, [shape(100 + n, "rectangle", box, 1) for n, box in enumerate(BOXES)])
    with serving(fake) as cvat:
        known = {"CVAT_ACCESS_TOKEN": TOKEN, "DYNREFER_SERVER": service, "PYTHONPATH": str(ROOT)}
        command = ["-m", "dynrefer.service.client.cvat", "--server-host", cvat, "describe", str(TASK)]
        command += ["--attributes", "caption,category"]
        subprocess.run([python_with("cvat"), *command], env={**os.environ, **known}, check=True)
    annotations = []
    for each in fake.shapes:
        caption, category = (value["value"] for value in each["attributes"])
        x1, y1, x2, y2 = each["points"]
        annotations.append(Annotation((x1, y1, x2, y2), caption, lines=(("category", category),)))
    with Image.open(IMAGE) as image:
        draw_regions(image, annotations).convert("P", palette=Image.Palette.ADAPTIVE, colors=96).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
