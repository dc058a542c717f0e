"""`python -m tests.without_temporary_folder ...`: the command `dynrefer` on a system with no temporary folder.

Where everything is read-only, `tempfile` finds none among its candidates; here it has no candidates.
"""

import tempfile

from dynrefer.service.cli import main

if __name__ == "__main__":
    tempfile._candidate_tempdir_list = lambda: []  # type: ignore[attr-defined]
    main()
