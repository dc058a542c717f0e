"""A small network from an image window and a prompt to the mask of one object."""
