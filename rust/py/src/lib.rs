//! The Python extension module `conntrack_py._native`: it converts, and calls the core.
