"""The injector: what it takes for a pod to be in the mesh, put into it when it is created.

Pure, from the API server's question to the answer:

    review               one AdmissionReview in, its answer out
    admission_request    the request in a review, strictly
    patch                pod and settings -> the pod as it has to be, or why it stays as it is, or what is wrong with it
    shape                whether what is read of a pod has its types
    standing             which pods are left out, which are refused, and who can go past the sidecar
    annotations          a pod's own wishes, checked
    contradictions       what these wishes cannot mean together
    wanted               the settings with these wishes laid over them: what this pod gets
    values               what the sidecar accepts, said on this side of the wall between the programs
    application_ports    what the application speaks on which port, by its ports' names
    probes               the kubelet's probes ask the sidecar, which asks the application
    containers           the two containers and two volumes that are put into a pod
    json_patch           the difference of two JSON values, RFC 6902
    faults               everything that is wrong, with its place
    settings             what is put into pods, with every default; settings_file reads them

For `doorward inject`, which needs no cluster:

    offline              manifests in, manifests out, and what to say of each object
    manifests            YAML and JSON as kubectl means them
    scalars              what an unquoted scalar means to kubectl

And around it:

    webhook              the server that API servers call: TLS, HTTP, bounds; it hands bodies to review
    serving_certificate  what it shows them, replaced in time
    admission            what the log says of one admission
    registration         its caBundle, kept equal to the roots that are trusted
    injection            the two of them for one cluster, opened by the settings
    audit                which pods should be in the mesh and are not, and why: pure, over what listing has
    listing              pods and namespaces as they are at this moment
"""
