"""Label Studio: the service as a machine learning backend of a project.

Users enter http://HOST:PORT/label-studio. Regions that they drew are described, or regions are found and described, as
the project's labelling configuration asks; what they correct is collected for training.
"""

import os

from dynrefer.service.api.surfaces import Surface
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.integrations.label_studio.corrections_folder import CorrectionsFolder
from dynrefer.service.integrations.label_studio.images import Images
from dynrefer.service.integrations.label_studio.routes import PREFIX, make_router, write_problem
from dynrefer.service.integrations.label_studio.webhooks import Collector
from dynrefer.service.settings import Settings, SettingsError


def integration(settings: Settings) -> Integration:
    """The integration `label-studio`. Raises SettingsError where the folder of corrections cannot be written."""
    images, surface = Images(settings), Surface("label-studio", (f"{PREFIX}/",), write_problem)
    if settings.label_studio_corrections is None:
        return Integration(surface, make_router(images, None))
    folder = CorrectionsFolder(settings.label_studio_corrections, settings.label_studio_corrections_bytes)
    try:
        folder.make()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise SettingsError(f"label_studio_corrections {folder.path} cannot be written: {reason}.") from None
    collector = Collector(folder, images)
    return Integration(surface, make_router(images, collector), collector.running)
