"""The claims of the lecture on these networks, in its order, and what shows each of them.

docs/lecture.md tells the story; its verdicts come from here. May import errors, inspection, models,
reproduction, studies.
"""
