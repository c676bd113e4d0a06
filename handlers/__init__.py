import gc

gc.set_threshold(200_000)
"""What is imported stays: looking through it again and again for garbage is a tenth of a cold start."""
