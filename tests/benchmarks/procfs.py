"""What the kernel says a process has cost: the figure that every table of the benchmark is made of.

The rule: CPU time is read from /proc by whoever knows when the load's window begins and ends, at both ends of that same
window, so start-up, ramp and warm-up are not in it. The clock ticks at 100 Hz: over 4 s at a quarter of a core one tick
is 1 %.
"""

import os
from pathlib import Path
from typing import Final

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process (proc(5), fields 14 and 15 of stat)."""
    # The second field, the command in parentheses, may itself hold spaces and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
