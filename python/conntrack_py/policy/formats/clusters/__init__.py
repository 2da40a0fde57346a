"""Policies for the network plugins of Kubernetes: Cilium, Calico and Antrea. Their groups are pods with a label."""
