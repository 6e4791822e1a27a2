"""Plugins: models built on the parts of fsdbev, each in a package of its own."""
