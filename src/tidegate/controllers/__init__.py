"""Controllers: what resources say is made true, and statuses say what is.

Each reads from a cache, computes, and writes through the store; nothing is remembered that
isn't found again by looking (`loop`). `modelservers` runs processes, `routes` and
`objectives` write conditions.
"""
