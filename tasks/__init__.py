"""Labelled data, its scores, and what answers: GLUE's tasks, anyone's own files, classifiers and the engines they run in.
"""
