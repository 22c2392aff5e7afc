"""One run of a job into one directory: what every door does alike (docs/adr/0001)."""
