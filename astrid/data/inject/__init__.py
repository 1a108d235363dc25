"""Put transients, trails and cosmic rays into real frames, with exact truth; no other pixel changes a bit."""
