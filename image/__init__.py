"""What the images are made of and with; the Dockerfile stands beside this room.

sidecar.lock, control-plane.lock    what each image installs from PyPI, by hash; `make lock` renews them
build.lock                          what makes the wheel, in the build stage only
sbom                                what is in a finished image: its bill of materials
"""
