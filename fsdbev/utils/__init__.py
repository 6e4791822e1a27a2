"""Helpers that any package may use; they import nothing of ours."""
