"""Letting another model serve, as it stands in requests and answers."""

from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dynrefer.service.api.schemas import refusal
from dynrefer.service.engine.executor import Phase
from dynrefer.service.engine.reloading import ReloadState

MOST_CHARS = 1_024  # of a directory's name


class ReloadRequest(BaseModel):
    """Which model is to serve from now on: one of `model` and `previous`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(
        None,
        min_length=1,
        max_length=MOST_CHARS,
        description="`embedded`, the model that the service was started with, or a directory in its `models_dir`",
    )
    previous: bool = Field(False, description="the model that served before: a roll back, and of that another one")
    unload_first: bool = Field(
        False,
        description="end the model that serves before the new one is loaded, where there is no memory for both: until "
        "then every request is answered 503",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.previous == (self.model is not None):
            raise refusal("Give either 'model' or 'previous': true.")
        return self


class ServingOut(BaseModel):
    """The model that serves."""

    model: str = Field(description="as it was asked for")
    name: str | None = Field(None, description="as it stands in answers; absent while it is loaded")
    revision: str | None = Field(None, description="absent while it is loaded")
    since: datetime | None = Field(None, description="since when it serves; absent while it is loaded")


class FailureOut(BaseModel):
    """Why a model could not be loaded."""

    model: str
    detail: str
    at: datetime


class ReloadAnswer(BaseModel):
    """Which model serves, and what is under way."""

    serving: ServingOut
    previous: str | None = Field(None, description="what `previous` loads; absent before the first switch")
    loading: str | None = Field(None, description="what is being loaded; absent if nothing")
    ending: bool = Field(description="whether requests are still being answered by the model that served before")
    last_failure: FailureOut | None = Field(None, description="of the last attempt that failed; absent if none did")


def reload_answer(state: ReloadState) -> ReloadAnswer:
    """The state as an answer."""
    source, executor, failure = state.serving.source, state.serving.executor, state.last_failure
    serving = ServingOut.model_validate({"model": source.name})
    if executor.phase is not Phase.LOADING and executor.predictor is not None:
        card = executor.predictor.card
        serving = ServingOut(
            model=source.name, name=card.name, revision=card.revision, since=_since(executor.loaded_at)
        )
    return ReloadAnswer(
        serving=serving,
        previous=None if state.previous is None else state.previous.name,
        loading=None if state.loading is None else state.loading.name,
        ending=state.ending,
        last_failure=None
        if failure is None
        else FailureOut(model=failure.source.name, detail=failure.sentence, at=failure.at),
    )


def _since(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
