"""The injector: what it takes for a pod to be in the mesh, put into it when it is created.

settings        what is put into pods, with every default
review          one AdmissionReview in, its answer out
"""
