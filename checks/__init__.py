"""The checks: proofs of the repository from the outside, against real binaries, servers and tools.

Each module here, except `ci`, is one check: run it from the repository's root as `python3 -m checks.NAME`. Its Makefile
target has the same name, or that name with `-check`. `checks.harness` holds what they share. Python 3.11 and its standard library are all they need.
"""
