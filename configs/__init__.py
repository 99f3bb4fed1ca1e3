"""One file per experiment family: `configs/<family>.py:key=value,...` gives a locked ConfigDict.

May import errors, models.
"""
