"""``python -m nomoat`` is ``nomoat``."""

from nomoat.cli.main import entry

entry()
