"""Parts of the soak: what goes wrong, what is watched, and what is written of it."""
