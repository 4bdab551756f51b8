"""Labelled data, its scores, and what answers.

GLUE's tasks (`glue`), anyone's own files, classifiers, the engines they run in, evaluation, the leaderboard's files.
"""
