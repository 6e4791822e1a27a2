"""Exit statuses of a training, beside 0 (done), 1 (an error) and 2 (a wrong command line)."""

#: Asked to stop by SIGTERM or SIGUSR1: all is saved, the same command with ``--resume`` goes on.
#: The number is that of EX_TEMPFAIL in sysexits.h, "try again later".
PREEMPTED = 75
#: Another process of the job was lost (killed, stopped, cut off) or ended with an error, so that
#: this one could not go on; what was lost stands in its log.
RANK_LOST = 76
