"""The data sets that ship with prdsim, and the manifest of those found elsewhere."""
