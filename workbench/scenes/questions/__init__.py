"""Questions about drawn scenes, with answers that are true by construction."""
