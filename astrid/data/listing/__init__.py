"""A manifest made from a folder of frames: what their headers say, which are of one field, which go together."""
