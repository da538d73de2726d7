"""Pieces of the judge's validation study (`make study-judge`)."""
