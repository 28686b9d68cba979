"""Settings: where the values of a configuration come from, and what is done when they change.

The rule: the classes of :mod:`inferencegw.config` are the only list of options. What is here walks over their fields:
an option that is added there has a key in the file, a variable, a line in ``trio-gw config`` and one in the reference,
and a flag if it wants one, without anybody else being told.

Who keeps something that a reload changes is told by :class:`~inferencegw.settings.live.Live`, the one place that holds
the configuration in force: ``live.subscribe(callback)``. A callback takes the configuration before and the one now,
runs at every reload, whether a value changed or not (a file that an option names may have), after the new one is in
force, and must not raise: what it cannot use it logs, and goes on with what it had.
"""
