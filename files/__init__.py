"""Reading and writing on disk without running code.

What the user gave wrong (`errors`), files that appear whole or not at all (`atomic`), JSON, weights of every format and
the pickles among them, downloads, and the style of pictures.
"""
