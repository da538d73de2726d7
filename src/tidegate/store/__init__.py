"""Resources behind one interface: embedded in SQLite, served as a Kubernetes API, or remote.

The store keeps resources and knows no meaning. Whoever reads it gets typed objects and
follows their changes; whoever writes says only its own fields.
"""
