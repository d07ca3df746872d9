"""The top of the package: configuration, plan, packing, execution, status and the command line."""
