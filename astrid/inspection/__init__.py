"""Single objects: what became of each, where false alarms come from, and what the network looked at."""
