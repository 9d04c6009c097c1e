"""A cluster on one machine, as `raftkv-trio local` runs it from a Procfile.

`supervisor` runs the processes, `control` is the socket through which `local run` reaches it. Nothing here
imports the node: its processes are programs like any others.
"""
