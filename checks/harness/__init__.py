"""The harness of the checks: processes, ports, waiting, reports, grpcurl, Docker, compose projects and traffic."""
