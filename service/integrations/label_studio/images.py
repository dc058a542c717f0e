"""The images of tasks: in the data itself, on the operator's Label Studio, or at a public address."""

from dynrefer.service.errors import BodyTooLargeError, InvalidRequestError
from dynrefer.service.inputs.base64_text import Base64Error, decode_base64
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.inputs.url_fetch import Fetcher
from dynrefer.service.integrations.label_studio.client import ImageNotFetched, LabelStudio
from dynrefer.service.settings import Settings


class Images:
    """Whatever a task names as its image -> the file."""

    def __init__(self, settings: Settings) -> None:
        token = settings.label_studio_token.get_secret_value() if settings.label_studio_token else None
        limits = settings.max_body_bytes, settings.image_url_timeout_s
        self.label_studio = (
            LabelStudio(settings.label_studio_url, token, *limits) if settings.label_studio_url else None
        )

    async def fetch(self, given: str, project: str, fetcher: Fetcher | None, lease: Lease) -> bytes:
        """given: a `data:` URI, a path on Label Studio or an address. fetcher: the guard, of public addresses.

        Raises ImageNotFetched, BodyTooLargeError, QueueFullError.
        """
        if given[:5].lower() == "data:":
            lease.add(len(given) * 3 // 4)
            return _decoded(given)
        if self.label_studio is not None and (address := self.label_studio.address_of(given)) is not None:
            return await self.label_studio.fetch(address, project, lease)
        if given.startswith("/"):
            raise ImageNotFetched(
                f"The image {printable(given)} is on Label Studio, and this service was not told where that is: set "
                "DYNREFER_LABEL_STUDIO_URL and DYNREFER_LABEL_STUDIO_TOKEN."
            )
        if fetcher is None or not given.lower().startswith("https://"):
            raise ImageNotFetched(
                f"The image {printable(given)} is not fetched: this service fetches from the Label Studio of its "
                "setting label_studio_url, and https addresses of the hosts of image_url_hosts."
            )
        try:
            return await fetcher.fetch(given, lease)
        except BodyTooLargeError:
            raise
        except InvalidRequestError as error:
            raise ImageNotFetched(f"{printable(given)}: {error.detail}") from None


def _decoded(uri: str) -> bytes:
    try:
        return decode_base64(uri.encode("ascii", "replace"))
    except Base64Error as error:
        raise ImageNotFetched(f"The image in the task's data is not standard Base64: the text {error}.") from None
