"""A run as its journal tells it: what is known of it, how that is shown, and how it is followed to its end."""

from .follow import follow, show_once

__all__ = ["follow", "show_once"]
