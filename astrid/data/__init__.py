"""From files or a simulated sky to batches of tiles."""
