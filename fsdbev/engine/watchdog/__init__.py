"""Names the process of a job that is lost or stuck, instead of a silent hang."""

from .activity import Activity, WatchedLoader, doing, during
from .watchdog import Patience, watched

__all__ = ["Activity", "Patience", "WatchedLoader", "doing", "during", "watched"]
