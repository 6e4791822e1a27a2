"""Helpers for all packages. Only ``collect_env`` and ``flops`` import other packages of fsdbev."""
