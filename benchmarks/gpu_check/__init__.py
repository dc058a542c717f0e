"""`make gpu-check`: everything that a machine with one GPU should show, in one command without a network.

    python -m benchmarks.gpu_check [--device cuda] [--preset flan-t5-xl] [--out FILE] [--only PART ...]

Every part runs in a process of its own, within a time of its own: what one breaks, the others do not see. Its figures
are written as they come. `bundle.py` prepares what travels to such a machine (`make gpu-bundle`).
"""
