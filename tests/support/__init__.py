"""What tests of several rooms share; nothing here is collected as a test.

The first line of each module says what it offers. `pki` is the one that all others stand on: good and bad certificates.
"""
