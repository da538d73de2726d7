"""Resources become one immutable table; requests find their rule, arm and session in it.

Pure functions over frozen values: the same snapshot gives the same table everywhere, so
workers and the controller compile for themselves and need no channel between them.
"""
