"""What measures this project's own instruments, and writes the tables and figures of the documentation."""
