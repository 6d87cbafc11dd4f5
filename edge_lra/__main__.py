"""Run the command line as `python -m edge_lra`."""

from edge_lra.cli import main

if __name__ == "__main__":
    main(prog_name="edge-lra")
