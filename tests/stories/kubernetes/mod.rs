//! Stories about deploy/kubernetes: the binaries run as in the manifests, and the kubelet's view of them.

mod kubelet;
mod manifest;
mod pod_lifecycle;
