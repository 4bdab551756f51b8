"""What the training scripts share, an idea a file.

How a run starts and ends (`start`), device, processes, precision, optimizer, schedule, the order of the data, the run's
folder, and `loop`, which says after each step what is due. The loop itself, the loss and the evaluation are the
scripts' own.
"""
