"""How a training is asked to stop, and what its exit status says beside 0 (done), 1 (an error) and
2 (a wrong command line)."""

import signal

#: Ask for a stop; SIGUSR1 where the system has it.
STOP_SIGNALS = frozenset({signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)})

#: Asked to stop: all is saved, the same command with ``--resume`` goes on. The number is that of
#: EX_TEMPFAIL in sysexits.h, "try again later".
PREEMPTED = 75
#: Another process of the job was lost (killed, stopped, cut off) or ended with an error, so that
#: this one could not go on; what was lost stands in its log.
RANK_LOST = 76
