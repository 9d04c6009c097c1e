"""Asking a running cluster over HTTP: its status, its members, its snapshots, a backup; and load on it.

`rest` is the only module that speaks HTTP, beside `load/`; each of the others is one subject.
"""
