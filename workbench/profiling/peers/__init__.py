"""`dynrefer bench peers`: the same regions of one image by DynRefer and by what a user would take instead."""
