"""What must happen before Paddle starts, and on which device it runs. The first import of every script.

Importing it sets nothing that the user's environment already says.
"""

import os

os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle's C++ side: errors only
