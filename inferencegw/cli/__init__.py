"""The command ``trio-gw``: one file per command, ``app.py`` for what they share on the way in and out.

Files whose names begin with an underscore are not commands: how servers are announced (``_serving``), how integers
are read (``_integer``), how a gateway's admin service is asked (``_admin``), how child processes are kept from
outliving us (``_leash``), and how the demo is told (``_story``, ``_screen``).
"""
