"""The parts of a sweep: its points, read from a file, and the work, done in one process or spread over many."""
