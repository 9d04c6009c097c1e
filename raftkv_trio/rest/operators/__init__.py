"""The Quart app under `/-/`: what operators see of one node, and what they can make it do.

- `routes.py`: `status`, `healthy`, `ready`, `snapshot`, `leader`, `log-level`, and the form of every error.
- `member_routes.py`: the list of members, and adding, promoting, updating and removing them.
- `metrics.py`: names, labels and help texts of the Prometheus metrics.
- `backup_route.py`: the download of a snapshot.
- `documents.py`: plain text, JSON, and problem documents (RFC 9457).
"""
