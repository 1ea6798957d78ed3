"""What tests of several rooms share; nothing here is collected as a test.

pki     Pki: a root, an issuer, and every kind of certificate, good and bad
"""
