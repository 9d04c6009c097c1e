"""How fast raftkv-trio is, beside others, measured by one command: `python -m benchmarks`.

It starts each contestant itself, measures all of them on this machine in turns, and prints one table. This
package is not part of the distribution's wheel. `docs/performance.md` says what is measured, and how.

- `plan.py`: what a run measures, and how long; `--quick` is a plan of its own.
- `parts.py`: the parts of a run, as `--only` names them.
- `run.py`: carries a plan out; what cannot be measured is named, with the reason.
- `contestants/`: how each of them is started, and where its leader answers.
- `measurements/`: what is measured, one subject a file.
- `programs/`: what runs in processes of its own: servers, nodes without HTTP, a directory with many keys.
- `wrk.py`, `wrk.lua`: the one load generator.
- `processes.py`: processes, their files and memory; `ports.py`: ports for them, and for the nodes of tests.
- `figures.py`: what was measured; `targets.py`: the goals, computed from it; `bends.py`: where curves bend.
- `environment.py`, `table.py`, `plot.py`: how it is shown; `documents.py`: in docs/performance.md.
- `outputs.py`: the files of a run, which are looked at before it begins.
"""
