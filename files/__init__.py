"""Reading and writing on disk without running code.

What the user gave wrong (`errors`), files that appear whole or not at all (`atomic`), folders that go with their
process (`temporary`), JSON, weights of every format and the pickles among them, what only stands in for a file
(`stand_ins`), downloads, and the style of pictures.
"""
