//! Stories about deploy/kubernetes: the binaries run as the manifests say, and what the kubelet would see and do.

mod kubelet;
mod life;
mod manifest;
