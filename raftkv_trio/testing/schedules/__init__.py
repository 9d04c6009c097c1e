"""Which faults strike a simulated cluster, and when?

- `schedule.py`: the words: kinds of faults, occasions, limits, a whole schedule.
- `draw.py`: the schedule of a seed; `draw_reshaping.py`: an operator's changes of members in it;
  `draw_disks.py`: a disk that stays full, a directory that is set back.
- `schedule_text.py`: a schedule as JSON, to keep it.
"""
