"""What one input may cost."""

SLOW = 0.010  # seconds of CPU
LARGE = 16 << 20  # bytes held
SLOWED = 5  # instrumented code is several times slower than the daemon's
TRIES = 5  # an input is too slow when it is in every one of them
