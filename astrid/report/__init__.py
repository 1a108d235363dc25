"""A run, or a sweep, as one HTML file that loads nothing: for who wants to look rather than to read."""
