"""Asking a running cluster over HTTP: its status, its members, its snapshots, a backup.

`rest` is the only module that speaks HTTP; each of the others is one subject.
"""
