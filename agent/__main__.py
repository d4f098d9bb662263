"""`python -m agent`: the command without its entry point."""

from agent.cli import main

main(prog_name="wirespan")
