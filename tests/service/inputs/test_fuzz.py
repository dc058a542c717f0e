"""A short run of damaged images and requests; `python -m benchmarks.fuzz` is the long one."""

import itertools

import pytest

from benchmarks.corpus import damaged_bodies, damaged_images
from benchmarks.fuzz import send, service


@pytest.mark.server
def test_damaged_requests_get_2xx_or_4xx() -> None:
    samples = itertools.chain(damaged_images(2, 300), damaged_bodies(2, 300))
    with service() as (process, address):
        findings = send(address, process.pid, samples, every=100, keep=None)
        assert findings.bad == [] and sum(findings.answers.values()) == 600
        assert findings.answers[200] > 30 and findings.answers[422] > 30  # some were still images
        assert process.poll() is None


def test_the_same_seed_sends_the_same_bytes() -> None:
    for samples in (damaged_images, damaged_bodies):
        assert list(samples(3, 40)) == list(samples(3, 40)) != list(samples(4, 40))
