"""Programs of the system that some tests need, and the Debian packages they come in."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

Test = Callable[..., Any]


def needs(program: str, package: str) -> Callable[[Test], Test]:
    """Mark a test as `system`; it is skipped where the program is not installed. CI installs the packages."""

    def mark(test: Test) -> Test:
        missing = shutil.which(program) is None
        test = pytest.mark.skipif(missing, reason=f"needs {program}: apt-get install {package}")(test)
        return pytest.mark.system(test)

    return mark


needs_java = needs("java", "default-jre-headless")
