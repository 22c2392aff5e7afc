"""Jobs: validated parameters and records in, a generator that yields progress, results out."""
