"""Training in several processes: what works, measured, and one script that is right.

`python -m benchmarks.hosts` runs every way and writes book/measured/hosts.csv; `ways` is what each process
does; `train` is the shortest script that ends as one process does.
"""
