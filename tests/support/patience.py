"""How long a test waits for what has to come: so long that only what never comes fails it, with the place that waited.

Nothing of the product is promised by it: a machine that is shared stands still for seconds, above all where a disk has
to confirm what was written. What is promised in time is tested in virtual time, or against a limit that the test sets.
"""

PATIENCE = 30.0  # seconds; less than faulthandler_timeout, so that the test says itself where it waited
