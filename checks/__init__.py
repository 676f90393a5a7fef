"""The checks: proofs of the repository from the outside, against real binaries, servers and tools.

Each module here is one check, run from the repository's root as `python3 -m checks.NAME` and listed in the Makefile under
a target of that name. `checks.harness` holds what they share. Python 3.11 and its standard library are all they need.
"""
