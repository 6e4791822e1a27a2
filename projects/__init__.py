"""Plugins: models that add to fsdbev what it leaves open."""
