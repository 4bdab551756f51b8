"""What the training scripts share, an idea a file: device, processes, precision, optimizer, the order of the data, and
`loop`, which says after each step what is due.

The loop itself, the loss and the evaluation are the scripts' own.
"""
