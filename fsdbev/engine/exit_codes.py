"""What a job's exit status says. 0: done; 1: an error, which is in the log; 2: a wrong command."""

#: Asked to stop by SIGTERM or SIGUSR1: all is saved, the same command with ``--resume`` goes on.
#: The number is that of EX_TEMPFAIL in sysexits.h, "try again later".
PREEMPTED = 75
