"""The one exception that entry scripts show to a user as a single line.

Anything else that is raised is a defect of ours and keeps its traceback.
"""


class UserError(Exception):
    """Bad input: the message is one line that names the field or file and the valid values."""
