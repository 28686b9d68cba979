"""What the process says about itself: its log (metrics and spans come with the observability issue).

The rule: nothing here imports trio or knows a part of the gateway, so that every part may import it.
"""
