"""nginx and its configuration, processes and ports: for the command line and for scripts/."""
