"""Programs that benchmarks start in processes of their own, as `python -m benchmarks.programs.NAME`."""
