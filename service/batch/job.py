"""One run of `dynrefer batch`, from the input to the files: plan, go on from the journal, answer the rest, write."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynrefer.model import NamedVocabularies, Predictor, ResolveVocabulary
from dynrefer.service.batch.answers import Answers
from dynrefer.service.batch.asking import read_question
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import ItemSource
from dynrefer.service.batch.journal import Journal, journal_path
from dynrefer.service.batch.outputs import (
    check_free,
    check_place,
    failures_path,
    output_of,
    write_failures,
    write_output,
)
from dynrefer.service.batch.planning import Job, Plan, asked_settings
from dynrefer.service.batch.session import ALL_ANSWERED, SOME_FAILED, LocalSession, say
from dynrefer.service.batch.sources import open_source
from dynrefer.service.errors import InvalidRequestError


def run_job(job: Job, predictor: Predictor[Any, Any] | None = None) -> int:
    """Returns the exit code. Raises BatchError for what cannot be used, SettingsError for such a shared cache, and
    ModelError for such a model.

    predictor: given by tests; else that of the settings is loaded. Signals are handled meanwhile: call it in the main
    thread.
    """
    if job.settings.engine == "ray":
        job = job.for_other_machines()
    outputs = [output_of(path) for path in (job.out, *job.also)]
    source, images = open_source(
        job.given,
        job.boxes,
        job.images,
        job.format,
        find=job.question.find is not None,
        written=[each.path for each in outputs],
    )
    resolve = (job.vocabularies or NamedVocabularies()).resolve
    with refusals():
        read_question(job.question, job.settings, resolve)
    for output in outputs:
        check_place(output, job.given, (job.given, job.boxes))
    with Journal(journal_path(job.out)) as journal:
        for path in (*(each.path for each in outputs), failures_path(job.out)):
            check_free(path, journal, overwrite=job.overwrite)
        journal.check(asked_settings(job))
        if journal.cut:
            say(f"the end of {journal.path} was torn ({journal.cut} bytes); it is done again.")
        plan = Plan.of(source, journal, retry_failed=job.retry_failed)
        if not plan.order:
            raise BatchError(f"{job.given} brings no regions and no images.")
        code = ALL_ANSWERED
        if plan.items_left:
            code = _answer(job, plan, source, images, journal, resolve, predictor)
            interrupt_on_sigterm()  # again: the event loop has put its own handlers away
        answers = Answers(journal, plan.order, images)
        failed = write_failures(failures_path(job.out), answers)
        if code != ALL_ANSWERED:
            return code
        for output in outputs:
            write_output(output, answers)
        if failed:
            say(f"{failed} failed; {failures_path(job.out)} says why. --retry-failed tries them again.")
        return SOME_FAILED if failed else ALL_ANSWERED


def _answer(
    job: Job,
    plan: Plan,
    source: ItemSource,
    images: Path,
    journal: Journal,
    resolve: ResolveVocabulary,
    predictor: Predictor[Any, Any] | None,
) -> int:
    """What is left. Returns the exit code."""
    if job.settings.engine == "thread":
        return asyncio.run(LocalSession(job, plan, source, journal, resolve, predictor).run())
    from dynrefer.service.scale.ray.batch import answer_on_ray

    return answer_on_ray(job, plan, source, images, journal, predictor)


def interrupt_on_sigterm() -> None:
    """Where no run handles it, SIGTERM ends the command as SIGINT does. In the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What the service would refuse of a request is a usage error of the command."""
    try:
        yield
    except InvalidRequestError as error:
        where = "".join(f" ({each.pointer.strip('/')})" for each in error.fields[:1] if each.pointer)
        detail = error.fields[0].detail if error.fields else error.detail
        raise BatchError(f"{detail}{where}") from None
