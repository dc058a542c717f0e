"""Describing many images without a server: `dynrefer batch`.

`formats/` reads where the regions are and writes what was found, a file per format; `items.py` is what one image is
asked; `journal.py` keeps every answer that there is, so that a run that was killed goes on; `asking.py` puts an item to
the engine of the service; `running.py` keeps the engine busy; `outputs.py` writes the files from the journal.
"""
