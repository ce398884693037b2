"""Does a backend compute what the float64 reference computes? See `ladder`."""
