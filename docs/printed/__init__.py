"""What the documentation prints from the code while it is built: automata, and tables of values.

The rule: a function returns reStructuredText, which ``.. printed:: swim.timings`` puts in its place. What can be worked
out is never typed into a chapter, so it cannot become wrong there. Nothing here needs Sphinx; ``conf.py`` has the
directive, and ``tests/docs`` proves that what is printed is what the code says.
"""
