"""`doorward-sidecar redirect`: the iptables rules that send a pod's TCP through its sidecar.

rules           Redirection: what is captured and what is not -> text for iptables-restore. Pure
flags           what was given on the command line -> Redirection, with every fault at once. Pure
iptables        the kernel's rules read and replaced, for both IP versions or for none
command         the subcommand: prints, installs or removes, and says what is captured
"""
