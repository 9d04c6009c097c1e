"""`python -m raftkv_trio` is `raftkv-trio`."""

from raftkv_trio.cli import main

main()
