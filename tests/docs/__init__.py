"""The documentation is executed: every block, every command, every link."""
