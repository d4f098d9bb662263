"""The agent: command line, configuration, processes, health, and the one place where all stages meet."""
