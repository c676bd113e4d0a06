"""AWS Lambda functions: each module is one, with a `handler`."""

import gc

gc.set_threshold(200_000)
"""Modules live as long as the process: searching them for garbage again and again takes a tenth of a cold start."""
