"""What the process says about itself: its log, its metrics and its spans.

The rule: nothing here imports trio or knows a part of the gateway, so that every part may import it.
"""
