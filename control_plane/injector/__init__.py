"""The injector: what it takes for a pod to be in the mesh, put into it when it is created.

settings        what is put into pods, with every default
review          one AdmissionReview in, its answer out
webhook         the server that API servers call: TLS, HTTP, bounds; it hands bodies to review
serving_certificate  what it shows them, replaced in time
admission       what the log says of one admission
"""
