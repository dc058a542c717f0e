"""How many GPUs N regions per second need, and what breaks first: a simulation of the service at up to 1,000 GPUs.

`kernel.py` is the clock and what queues are made of; `traffic.py` what arrives; `routing.py`, `replicas.py` and
`fleet.py` the service; `costs.py` what its steps cost, read from measured files, and `measuring.py` measures those that
no other benchmark does; `sizing.py` capacities, bottlenecks and prices; `reality.py` compares predictions with what was
measured; `pictures.py` draws. docs/scaling.md shows the results.
"""
