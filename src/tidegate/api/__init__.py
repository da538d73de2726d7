"""The resources: models, versions, defaults, validation and schemas, and the one error tree.

Pure values and functions; everything else stands on this package.
"""
